"""A PostgreSQL that dies under a coordinator whose own processes go on."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from federation.coordinator import driver
from federation.invitation import Stage
from federation.plan import FederationPlan, Timing
from tests.coordinators import plan_for, privacy_plan
from tests.faults.claims import check_at_rest, check_finished, remembered
from tests.faults.postmaster import dead
from tests.faults.wards import Ward, answering, ward

COHORT = 3
WORKERS = 2
DEAD_SECONDS = 2.0
LONGEST_SECONDS = 0.4
"""From the beginning of a stage to the server's death."""
STAGES = [stage for stage in Stage if not stage.is_over]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def plan(identity: str, rounds: int) -> FederationPlan:
    """Rounds that fail only if a participant is silent for minutes, which none is."""
    privacy = privacy_plan(
        cohort=COHORT, min_survivors=COHORT, noise_multiplier=8.0, rounds=rounds,
        max_participations=rounds,
    )  # fmt: skip
    return plan_for(identity, privacy, timing=Timing(600.0, 600.0, 0.0, 0.0))


def workers(place: Ward) -> set[psutil.Process]:
    """The coordinator's processes, each of which is itself only as long as it lives."""
    assert place.process is not None
    first = psutil.Process(place.process.pid)
    return {first, *first.children(recursive=True)}


def test_the_database_server_dies_in_every_stage(
    tmp_path: Path, new_postgresql: Callable[[], str]
) -> None:
    """No request fails for good, no round is lost, and each is paid for and opened once."""
    chosen = random.Random(1)
    database_url = new_postgresql()
    rounds = len(STAGES)
    with ward(
        tmp_path / "home", partial(plan, rounds=rounds), database_url, workers=WORKERS
    ) as place:
        place.start()
        place.wait_ready()
        before = workers(place)
        with answering(place, COHORT):
            for number, stage in enumerate(STAGES):
                place.until(
                    lambda stage=stage, number=number: (
                        (place.stage(), place.released()) == (stage, number)
                    ),
                    f"round {number + 1} is {stage}",
                )
                time.sleep(chosen.uniform(0.0, LONGEST_SECONDS))
                with dead(database_url):
                    time.sleep(DEAD_SECONDS)
                place.wait_ready()
                check_at_rest(place)
            place.until(place.is_finished, "the rounds are over")
        assert workers(place) == before
        driver.sweep(place.authority)
        check_finished(place, remembered(place))
        assert place.released() == rounds
        assert place.refused[503] > 0 and place.refused[500] == 0
