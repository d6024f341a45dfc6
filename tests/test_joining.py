"""docs/joining.md as an owner would follow it: every command of it, against a real coordinator."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from federation.roster import fingerprint
from tests.federation.participant.sites import learning_site, until
from tests.forked import ENVIRONMENT, ROOT
from tests.served import alcove_json, start_node

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HOURS = "# Opening hours\n\nThe clinic is closed on Sundays.\n"


@pytest.mark.long
@pytest.mark.timeout(400)
def test_the_page_can_be_followed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    alcove_json("node", "init", "--home", str(home))
    (tmp_path / "hours").write_text(HOURS)
    command = tmp_path / "alcove"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli.main "$@"\n')
    command.chmod(0o700)
    process, _ = start_node(home)
    try:
        with learning_site(tmp_path / "coordinator", "another model", others=1) as site:
            environment = {
                **ENVIRONMENT,
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "ALCOVE_HOME": str(home),
                "COORDINATOR": site.url,
                "TOKEN": site.token(),
                "FINGERPRINT": fingerprint(site.site.participants[0].identity),
            }

            def shell(script: str) -> str:
                done = subprocess.run(
                    ["bash", "-euc", script],
                    cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
                )  # fmt: skip
                assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
                return done.stdout

            shell("alcove ingest hours")
            printed = ""
            for block in BLOCK.findall((ROOT / "docs" / "joining.md").read_text()):
                printed += shell(block)
                if "alcove node join" in block:
                    site.approve_all()
                    until(lambda: "other 0" in shell("alcove federation peers"), "the roster")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert "other 0 is confirmed" in printed
    assert "1 questions are stored" in printed
    assert "base_model: the plan says another model" in printed
    assert "epsilon 0 of at most 8" in printed
    assert re.search(r"membership-\w+ is left", printed)
