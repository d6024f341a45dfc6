"""Populations and federations: limits, budgets, plans and their states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from api.coordinator.coordinator import Coordinator
from federation.coordinator import federations, populations, versions
from federation.coordinator.refused import RefusedError
from federation.invitation import Stage
from federation.plan import FederationPlan
from privacy.budget import Budget, Step
from privacy.limits import RenyiFilter, Unit
from privacy.plan import Mode
from storage.coordinator_tables import Federation
from tests.coordinators import (
    BASIS,
    FEDERATION,
    PASSAGES,
    POPULATION,
    coordinator,
    initial_parameters,
    limit_for,
    plan_for,
    privacy_plan,
    site,
)

FILES = [BASIS, PASSAGES]


@pytest.fixture
def opened(tmp_path: Path, database_url: str | None) -> Iterator[Coordinator]:
    with coordinator(tmp_path / "home", database_url) as made:
        yield made


def budget(opened: Coordinator) -> Budget:
    with opened.database.read() as session:
        return populations.budget(session, POPULATION)


def state(opened: Coordinator, name: str = FEDERATION) -> Federation:
    with opened.database.read() as session:
        return federations.get(session, name)


def refusal(opened: Coordinator, plan: FederationPlan, files: list[bytes], initial: bytes) -> str:
    with pytest.raises(RefusedError) as refused:
        federations.create(opened.authority, plan, files, initial)
    return refused.value.code


def test_a_plan_sets_its_rounds_aside_and_stopping_gives_them_back(opened: Coordinator) -> None:
    plan = plan_for(opened.identity)
    populations.create(opened.authority, POPULATION, limit_for(plan))
    federations.create(opened.authority, plan, FILES, initial_parameters())
    assert len(budget(opened).rounds(plan.hash, Step.RESERVED)) == plan.privacy.rounds
    assert state(opened).state == "created"
    with opened.database.read() as session:
        assert versions.newest(session, FEDERATION).parameters_hash == plan.initial_hash
    for action, then in (
        (federations.start, "running"),
        (lambda a, n: federations.pause(a, n, "a holiday"), "paused"),
        (federations.resume, "running"),
        (lambda a, n: federations.stop(a, n, "done with it"), "stopped"),
    ):
        action(opened.authority, FEDERATION)
        assert state(opened).state == then
    assert state(opened).reason == "done with it"
    assert budget(opened).rounds(plan.hash, Step.RESERVED) == ()
    for forbidden in (federations.start, federations.resume):
        with pytest.raises(RefusedError, match="stopped"):
            forbidden(opened.authority, FEDERATION)


def test_a_plan_beyond_the_limit_is_refused_and_leaves_nothing_behind(opened: Coordinator) -> None:
    first = plan_for(opened.identity)
    run = first.run
    # As small as can be for the first plan: another one like it does not fit beside it.
    epsilon = next(
        e / 10 for e in range(1, 1_000) if limit_for(first, e / 10).admits(run.loss.times(3))
    )
    populations.create(opened.authority, POPULATION, limit_for(first, epsilon))
    federations.create(opened.authority, first, FILES, initial_parameters())
    second = replace(first, federation="second")
    assert refusal(opened, second, [], initial_parameters()) == "budget_exceeded"
    with pytest.raises(RefusedError, match="second"):
        state(opened, "second")
    federations.stop(opened.authority, FEDERATION, "to make room")
    federations.create(opened.authority, second, [], initial_parameters())
    assert state(opened, "second").state == "created"


def test_a_limit_for_nodes_cannot_bound_a_plan_for_subjects(opened: Coordinator) -> None:
    privacy = privacy_plan(mode=Mode.DOCUMENT, row_cap=100, planned_rows=100)
    plan = plan_for(opened.identity, privacy)
    limit = RenyiFilter(Unit.NODE, 8, 50.0, 1e-5)
    populations.create(opened.authority, POPULATION, limit)
    assert refusal(opened, plan, FILES, initial_parameters()) == "budget_mismatch"


def test_what_does_not_belong_to_a_plan_is_refused(opened: Coordinator) -> None:
    plan = plan_for(opened.identity)
    populations.create(opened.authority, POPULATION, limit_for(plan))
    good = initial_parameters()
    wrong = {
        "another coordinator's": (replace(plan, coordinator="0" * 64), FILES, good),
        "a file missing": (plan, [BASIS], good),
        "a file too many": (plan, [*FILES, b"more"], good),
        "other parameters": (plan, FILES, bytes(len(good))),
        "too short": (plan, FILES, good[:-4]),
    }
    for what, (changed, files, initial) in wrong.items():
        assert refusal(opened, changed, files, initial) == "bad_plan", what
    elsewhere = replace(plan, population="elsewhere")
    assert refusal(opened, elsewhere, FILES, good) == "unknown_population"
    federations.create(opened.authority, plan, FILES, good)
    assert refusal(opened, plan, FILES, good) == "federation_exists"


def test_versions_are_promoted_and_rolled_back(opened: Coordinator) -> None:
    plan = plan_for(opened.identity)
    populations.create(opened.authority, POPULATION, limit_for(plan))
    federations.create(opened.authority, plan, FILES, initial_parameters())
    federations.promote(opened.authority, FEDERATION, 0)
    with pytest.raises(RefusedError, match="no version 1"):
        federations.promote(opened.authority, FEDERATION, 1)
    with pytest.raises(RefusedError, match="no older one"):
        federations.roll_back(opened.authority, FEDERATION)
    assert state(opened).promoted == 0


def test_a_limit_is_not_lowered_below_what_is_set_aside(opened: Coordinator) -> None:
    plan = plan_for(opened.identity)
    # Order 8 has limits on either side of what the plan costs.
    limit = RenyiFilter(Unit.NODE, 8, 30.0, plan.privacy.delta)
    populations.create(opened.authority, POPULATION, limit)
    federations.create(opened.authority, plan, FILES, initial_parameters())
    cost = plan.run.loss.times(plan.privacy.max_participations)
    enough = next(e for e in range(3, 30) if replace(limit, epsilon=float(e)).admits(cost))
    for epsilon, code in ((-1.0, "bad_limit"), (enough - 1.0, "budget_exceeded")):
        with pytest.raises(RefusedError) as refused:
            populations.change_epsilon(opened.authority, POPULATION, epsilon)
        assert refused.value.code == code
    populations.change_epsilon(opened.authority, POPULATION, float(enough))
    assert budget(opened).limit == replace(limit, epsilon=float(enough))
    with opened.database.read() as session:
        kept = populations.ledger(session, POPULATION)
    assert (kept.limit, kept.length) == (budget(opened).limit, 2)
    with pytest.raises(RefusedError, match="already"):
        populations.create(opened.authority, POPULATION, limit)


def test_a_plan_whose_rounds_are_spent_is_finished(
    tmp_path: Path, database_url: str | None
) -> None:
    privacy = privacy_plan(rounds=1, max_participations=1)
    with site(
        tmp_path / "home", database_url, count=3, plan=lambda key: plan_for(key, privacy)
    ) as place:
        place.open_round()
        assert place.play().stage == Stage.RELEASED
        assert state(place.coordinator).state == "finished"
        federations.promote(place.authority, FEDERATION, 1)
        assert federations.roll_back(place.authority, FEDERATION) == 0
        with pytest.raises(RefusedError, match="finished"):
            federations.resume(place.authority, FEDERATION)


def test_stopping_fails_the_round_and_gives_its_slot_back(
    tmp_path: Path, database_url: str | None
) -> None:
    with site(tmp_path / "home", database_url, count=3) as place:
        place.open_round()
        place.play(until=Stage.MASKED)
        plan_hash = place.participants[0].plan(FEDERATION).hash
        federations.stop(place.authority, FEDERATION, "done with it")
        assert [node.work() for node in place.participants] == [[], [], []]
        assert len(place.budget().rounds(plan_hash, Step.RESERVED)) == 3
        place.turn()
        assert (place.round().stage, place.round().reason) == (
            Stage.FAILED, "the federation was stopped",
        )  # fmt: skip
        assert place.budget().rounds(plan_hash, Step.RESERVED) == ()
        assert len(place.budget().rounds(plan_hash, Step.RELEASED)) == 3


def test_no_round_is_opened_while_too_few_are_approved(tmp_path: Path) -> None:
    with site(tmp_path / "home", count=2) as place:
        place.turn()
        assert not place.is_running()
        assert len(place.ledger()) == 1
