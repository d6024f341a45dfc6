"""A coordinator whose clock is set back, whose disk is full, or whose folder is an old copy."""

from __future__ import annotations

import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import update

from benchmarks.participants import Participant
from federation.coordinator import driver, federations, populations
from federation.invitation import Stage
from federation.plan import FederationPlan, Timing
from privacy.budget import Step
from privacy.verification_report import Code
from storage.coordinator_tables import Round
from tests.coordinators import FEDERATION, POPULATION, admit, noisy_vector, plan_for, privacy_plan
from tests.faults.claims import (
    check_at_rest,
    check_finished,
    check_ledger,
    check_sums,
    ledger,
    remembered,
)
from tests.faults.clocks import HOUR, shift
from tests.faults.wards import Ward, answering, ward

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

COHORT = 3
FULL_SECONDS = 3.0


def plan(identity: str, rounds: int, timing: Timing) -> FederationPlan:
    privacy = privacy_plan(
        cohort=COHORT, min_survivors=COHORT, noise_multiplier=8.0, rounds=rounds,
        max_participations=rounds,
    )  # fmt: skip
    return plan_for(identity, privacy, timing=timing)


def wait_for_enlisting(place: Ward, released: int) -> None:
    """Return while a round waits for nodes to enlist, after so many versions."""
    place.until(
        lambda: place.released() >= released and place.stage() is Stage.ENLISTING,
        f"a round has begun after version {released}",
    )


def test_the_clock_is_set_back_an_hour(tmp_path: Path) -> None:
    """In a round and between two rounds, which end by their deadlines: one node never answers."""
    clock = tmp_path / "clock"
    shift(clock, 0.0)
    timing = Timing(8.0, 60.0, 0.0, 4.0)
    with ward(tmp_path / "home", partial(plan, rounds=3, timing=timing)) as place, ExitStack() as s:
        place.start("tests.faults.clocks", str(clock))
        place.wait_ready()
        http = s.enter_context(httpx.Client(base_url=place.url))
        silent = Participant(http, place.here.identity, noisy_vector)
        admit(place.authority, silent, "silent")
        with answering(place, COHORT):
            wait_for_enlisting(place, 0)
            shift(clock, -HOUR)
            place.until(lambda: place.released() >= 1, "the round goes on")
            shift(clock, -2 * HOUR)
            wait_for_enlisting(place, 1)
            place.until(place.is_finished, "the rounds are over")
        check_finished(place, remembered(place))
        with place.authority.database.read() as session:
            order = list(ledger(place, session))
        assert [round_.id for round_ in place.rounds()] == order


@contextmanager
def full_disk(place: Ward) -> Iterator[None]:
    """No file of the coordinator can grow."""
    assert place.process is not None
    process = psutil.Process(place.process.pid)
    _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))


def test_the_disk_is_full_for_a_while(tmp_path: Path) -> None:
    """What cannot be stored is refused for now; the round goes on when there is room."""
    timing = Timing(600.0, 600.0, 0.0, 0.0)
    stages = [Stage.ENLISTING, Stage.SHARES, Stage.MASKED, Stage.UNMASKING]
    with ward(tmp_path / "home", partial(plan, rounds=len(stages), timing=timing)) as place:
        place.start()
        place.wait_ready()
        with answering(place, COHORT):
            for number, stage in enumerate(stages):
                place.until(
                    lambda stage=stage, number=number: (
                        (place.stage(), place.released()) == (stage, number)
                    ),
                    f"round {number + 1} is {stage}",
                )
                with full_disk(place):
                    time.sleep(FULL_SECONDS)
                    check_at_rest(place)
            place.until(place.is_finished, "the rounds are over")
        place.until(lambda: not any(place.home.vectors.iterdir()), "the vectors are deleted")
        check_finished(place, remembered(place))
        assert place.released() == len(stages)
        assert place.refused[503] > 0 and place.refused[500] == 0


def quiet(place: Ward, released: int) -> None:
    """Stop after so many versions, nothing being under way."""
    place.until(lambda: place.released() >= released, f"version {released} is there")
    federations.pause(place.authority, FEDERATION, "for a backup")
    place.until(lambda: place.stage() is None, "nothing is under way")
    place.kill()


def restore(place: Ward, backup: Path) -> None:
    """Put the coordinator's folder back."""
    place.here.database.close()
    shutil.rmtree(place.home.root)
    shutil.copytree(backup, place.home.root)


def check_budget_kept(place: Ward) -> None:
    """No more sums were opened than the budget was charged for, over both lives together."""
    with place.authority.database.read() as session:
        charged = populations.budget(session, POPULATION).rounds(place.plan.hash, Step.CHARGED)
    assert len(place.opened) <= len(charged) == place.plan.privacy.rounds


def test_restored_from_before_several_rounds(tmp_path: Path) -> None:
    """The lost rounds are paid for before any other sum is opened."""
    backup = tmp_path / "backup"
    timing = Timing(600.0, 600.0, 0.0, 0.0)
    with ward(tmp_path / "home", partial(plan, rounds=6, timing=timing)) as place:
        place.start()
        place.wait_ready()
        with answering(place, COHORT):
            quiet(place, 1)
            shutil.copytree(place.home.root, backup)
            kept = {round_.number for round_ in place.rounds()}
            place.start()
            federations.resume(place.authority, FEDERATION)
            quiet(place, 3)
            lost = {round_.number for round_ in place.rounds()} - kept
            restore(place, backup)
            place.start()
            federations.resume(place.authority, FEDERATION)
            place.until(place.is_finished, "the rounds are over")
        driver.sweep(place.authority)
        numbers = {round_.number for round_ in place.rounds()}
        assert len(lost) >= 2 and not lost & numbers
        check_budget_kept(place)
        check_sums(place, remembered(place))
        check_ledger(place, frozenset({Code.FORK_OR_CUT}))


def test_restored_from_within_a_round(tmp_path: Path) -> None:
    """It was opened after the copy was made, and fails, unpaid, when it is lived through again."""
    backup = tmp_path / "backup"
    timing = Timing(600.0, 600.0, 0.0, 0.0)
    with ward(tmp_path / "home", partial(plan, rounds=4, timing=timing)) as place:
        place.start("tests.faults.dying_coordinator", "masked committed")
        place.wait_ready()
        with answering(place, COHORT):
            assert place.process is not None
            assert place.process.wait(timeout=120) == -signal.SIGKILL
            assert place.stage() is Stage.SURVIVORS
            shutil.copytree(place.home.root, backup)
            place.start()
            place.until(lambda: place.released() >= 1, "the round is over")
            first = place.rounds()[0]
            assert first.stage == Stage.RELEASED
            place.kill()
            restore(place, backup)
            with place.authority.database.write() as session:
                session.execute(update(Round).values(deadline=0.0))
            place.start()
            place.until(place.is_finished, "the rounds are over")
        driver.sweep(place.authority)
        (again,) = [round_ for round_ in place.rounds() if round_.id == first.id]
        assert again.stage == Stage.FAILED
        check_budget_kept(place)
        check_sums(place, remembered(place))
        check_ledger(place, frozenset({Code.FORK_OR_CUT}))
