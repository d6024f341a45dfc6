"""Every command that docs/command-line.md shows runs as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Served
from tests.forked import ENVIRONMENT, ROOT

PAGE = ROOT / "docs" / "command-line.md"
# The first two make the node that the others need; test_evaluate.py, test_simulate.py and
# test_personal.py run the others.
ELSEWHERE = (
    "alcove node init", "alcove node serve", "alcove evaluate ", "alcove simulate ",
    "alcove personal train", "alcove personal serve ",
)  # fmt: skip


@pytest.mark.long
def test_the_commands_of_the_page_run(served: Served, tmp_path: Path) -> None:
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook" / "leave.md").write_text("# Leave\n\nThere are 31 days of leave.\n")
    (tmp_path / "handbook" / "fees.md").write_text("# Fees\n\nA berth costs 42 crowns a night.\n")
    (tmp_path / "contract.md").write_text("# Contract\n\nThe contract ends on 30 June 2031.\n")
    command = tmp_path / "bin" / "alcove"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cli.main "$@"\n')
    command.chmod(0o700)

    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    shown = [line for block in blocks for line in block.splitlines()]
    script = [line for line in shown if not line.startswith(ELSEWHERE)]
    assert len(shown) - len(script) == len(ELSEWHERE)
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -euo pipefail", *script])], check=False, cwd=tmp_path,
        env={
            **ENVIRONMENT,
            "ALCOVE_HOME": str(served.home),
            "PATH": f"{command.parent}:{ENVIRONMENT['PATH']}",
        },
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "30 June 2031" in done.stdout
