"""A coordinator that is killed at every point of a round and at random moments, and comes back."""

from __future__ import annotations

import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from federation.coordinator import driver
from federation.plan import FederationPlan, Timing
from tests.coordinators import plan_for, privacy_plan
from tests.faults.claims import check_at_rest, check_finished, check_log, remembered
from tests.faults.dying_coordinator import POINTS
from tests.faults.wards import answering, ward

KILLS = 8
"""Random ones in each run."""
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 2.5
COHORT = 4
# `make test` has no time for all of them.
FEW_POINTS = ["survivors committed", "unmasking written"]


def plan(identity: str, rounds: int) -> FederationPlan:
    """Rounds that fail only if a participant is silent for minutes, which none is."""
    privacy = privacy_plan(
        cohort=COHORT,
        min_survivors=COHORT,
        noise_multiplier=8.0,
        rounds=rounds,
        max_participations=rounds,
    )
    return plan_for(identity, privacy, timing=Timing(600.0, 600.0, 0.0, 0.0))


def die_and_finish(home: Path, database_url: str | None, points: list[str], rounds: int) -> int:
    """Come back after each death to die at the next point; what is left is right every time."""
    with ward(home, partial(plan, rounds=rounds), database_url) as place:
        place.start("tests.faults.dying_coordinator", points[0])
        place.wait_ready()
        with answering(place, COHORT):
            for following in [*points[1:], None]:
                assert place.process is not None
                assert place.process.wait(timeout=120) == -signal.SIGKILL
                check_at_rest(place)
                dying = () if following is None else ("tests.faults.dying_coordinator", following)
                place.start(*dying)
            place.until(place.is_finished, "the rounds are over")
        place.until(lambda: not any(place.home.vectors.iterdir()), "the vectors are deleted")
        check_finished(place, remembered(place))
        check_log(place)
        return place.released()


@pytest.mark.long
def test_killed_around_the_charge(tmp_path: Path) -> None:
    assert die_and_finish(tmp_path / "home", None, FEW_POINTS, rounds=1) == 1


@pytest.mark.faults
def test_killed_at_every_point(tmp_path: Path, database_url: str | None) -> None:
    assert die_and_finish(tmp_path / "home", database_url, POINTS, rounds=2) == 2


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_random(tmp_path: Path, database_url: str | None, workers: int) -> None:
    chosen = random.Random(workers)
    with ward(tmp_path / "home", partial(plan, rounds=10), database_url, workers=workers) as place:
        place.start()
        place.wait_ready()
        with answering(place, COHORT):
            for _ in range(KILLS):
                time.sleep(chosen.uniform(SHORTEST_SECONDS, LONGEST_SECONDS))
                if workers > 1 and chosen.random() < 0.5:
                    place.kill_worker(chosen.randrange(workers))
                    continue
                place.kill()
                check_at_rest(place)
                place.start()
                place.wait_ready()
            place.until(place.is_finished, "the rounds are over")
            assert place.released() == place.plan.privacy.rounds
        driver.sweep(place.authority)
        check_finished(place, remembered(place))
        check_log(place)
