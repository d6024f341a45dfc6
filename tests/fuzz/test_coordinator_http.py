"""Schemathesis against a real coordinator, once as an admin and once as a participant."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from federation.invitation import Stage
from storage import staff_keys
from storage.coordinator_tables import Role
from tests.coordinators import FEDERATION, POPULATION, Site, site
from tests.forked import ROOT
from tests.fuzz.test_http import CHECKS, told

CONFIG = """
[parameters]
"path.federation" = "{federation}"
"path.population" = "{population}"
"path.participant_id" = 1
"path.number" = 0
"path.round_id" = "{round_id}"
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Site]:
    """A federation with a released version and a round in which masked vectors are due."""
    with site(tmp_path / "home", count=3) as found:
        found.open_round()
        found.play()
        found.open_round()
        found.play(until=Stage.MASKED)
        yield found


def fuzz(place: Site, folder: Path, bearer: str, paths: str) -> int:
    config = folder / "schemathesis.toml"
    config.write_text(
        CONFIG.format(federation=FEDERATION, population=POPULATION, round_id=place.round_id)
    )
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            "--config-file", str(config), "run", f"{place.url}/openapi.json",
            "--header", f"Authorization: Bearer {bearer}", "--checks", CHECKS,
            "--include-path-regex", paths,
            "--max-examples", os.environ.get("ALCOVE_FUZZ_EXAMPLES", "30"),
            "--request-timeout", "60", "--phases", "examples,coverage,fuzzing", "--no-color",
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, told(done.stdout)
    return place.participants[0].http.get("/ready").status_code


@pytest.mark.fuzz
@pytest.mark.timeout(900)
def test_no_request_of_staff_makes_the_coordinator_fail(place: Site, tmp_path: Path) -> None:
    with place.authority.database.write() as session:
        token = staff_keys.create(session, "fuzz", Role.ADMIN).token
    assert fuzz(place, tmp_path, token, "^/(v1/(admin|audit)|metrics|health|ready)") == 200


@pytest.mark.fuzz
@pytest.mark.timeout(900)
def test_no_request_of_a_participant_makes_the_coordinator_fail(
    place: Site, tmp_path: Path
) -> None:
    header = place.participants[0].http.headers["Authorization"]
    bearer = header.removeprefix("Bearer ")
    assert fuzz(place, tmp_path, bearer, "^/v1/(participant|enrolments)") == 200
