"""A coordinator that was restored from an old backup does not spend a budget again."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, delete, func, insert, select
from sqlalchemy import update as update_rows

from federation.coordinator import federations, populations
from federation.invitation import Stage
from federation.plan import FederationPlan
from privacy.budget import Step
from privacy.ledger_records import Result
from privacy.verification import verify
from storage.coordinator_tables import (
    BudgetEvent,
    CoordinatorBase,
    Federation,
    LedgerLine,
    Message,
    Receipt,
    Round,
    VersionRow,
)
from tests.coordinators import FEDERATION, POPULATION, Site, initial_parameters, plan_for, site

OTHER = "another-ward"


def charged(place: Site, federation: str = FEDERATION) -> int:
    run_id = place.participants[0].plan(federation).hash
    return len(place.budget().rounds(run_id, Step.CHARGED))


def restore_backup_from_before(place: Site, round_id: str, number: int) -> None:
    """Take back all that the database learnt in its last round, which released version `number`."""
    lines, before, opened = len(place.ledger()), place.budget(), place.round().number
    with place.authority.database.write() as session:
        session.execute(delete(LedgerLine).where(LedgerLine.sequence == lines - 1))
        position = session.scalar(select(func.max(BudgetEvent.position)))
        session.execute(delete(BudgetEvent).where(BudgetEvent.position == position))
        session.execute(delete(VersionRow).where(VersionRow.number == number))
        for table in (Receipt, Message):
            session.execute(delete(table).where(table.round_id == round_id))
        session.execute(delete(Round).where(Round.id == round_id))
    assert before.epsilon_spent() > place.budget().epsilon_spent()
    # Rounds are numbered by the clock's seconds, and no restore is done within one.
    time.sleep(max(0.0, opened + 1 - time.time()))


@pytest.fixture
def restored(tmp_path: Path, database_url: str | None) -> Iterator[Site]:
    """A coordinator whose last round is known to its participants only."""
    with site(tmp_path / "home", database_url, count=3) as place:
        place.open_round()
        assert place.play().stage == Stage.RELEASED
        restore_backup_from_before(place, place.round_id, 1)
        yield place


def test_a_lost_round_is_charged_before_the_next_one_goes_on(restored: Site) -> None:
    place = restored
    lost = place.participants[0].receipts[-1]
    assert charged(place) == 0
    place.open_round()
    place.play(until=Stage.KEYS)
    assert place.round().stage == Stage.KEYS
    assert charged(place) == 1
    facts = place.last_facts()
    assert (facts.result, facts.charged, facts.reason) == (
        Result.ABORTED, True, "recovered from a receipt",
    )  # fmt: skip
    assert facts.round_id.encode() in lost
    assert facts.receipts == len(place.participants)
    assert place.play().stage == Stage.RELEASED
    assert charged(place) == 2
    with place.authority.database.read() as session:
        file = b"".join(populations.lines(session, POPULATION))
    receipts = [receipt for node in place.participants for receipt in node.receipts]
    report = verify(io.BytesIO(file), [place.coordinator.identity], receipts)
    assert report.ok, report.findings


def test_one_receipt_is_enough_and_counts_once(restored: Site) -> None:
    place = restored
    for node in place.participants[1:]:
        node.receipts.clear()
    place.open_round()
    place.play(until=Stage.KEYS)
    assert charged(place) == 1
    place.open_round()
    place.play(until=Stage.KEYS)
    assert charged(place) == 1


def test_a_receipt_of_an_unknown_plan_stops_what_cannot_be_accounted(
    tmp_path: Path, database_url: str | None
) -> None:
    with site(tmp_path / "home", database_url, count=3) as place:
        place.open_round()
        assert place.play().stage == Stage.RELEASED
        with place.authority.database.write() as session:
            session.execute(update_rows(Federation).values(plan_hash="0" * 64))
        with place.authority.database.write() as session:
            session.execute(delete(LedgerLine).where(LedgerLine.sequence == 1))
            session.execute(delete(Receipt))
        place.open_round()
        place.play(until=Stage.KEYS)
        ended = place.round()
        assert ended.stage == Stage.FAILED
        assert ended.reason is not None and "lost" in ended.reason
        with place.authority.database.read() as session:
            assert session.get_one(Federation, FEDERATION).state == "paused"


Rows = dict[Table, list[dict[str, Any]]]


def back_up(place: Site) -> Rows:
    """Everything that the database holds."""
    with place.authority.database.read() as session:
        tables = CoordinatorBase.metadata.sorted_tables
        return {one: [dict(row._mapping) for row in session.execute(select(one))] for one in tables}


def restore(place: Site, backup: Rows) -> None:
    """Put the database back to what it held, a second after the newest round at the least."""
    opened = place.round().number
    with place.authority.database.write() as session:
        for table in reversed(backup):
            session.execute(delete(table))
        for table, rows in backup.items():
            if rows:
                session.execute(insert(table), rows)
    time.sleep(max(0.0, opened + 1 - time.time()))


def start_other(place: Site) -> None:
    """A second federation of the same population, whose first round has a later number."""
    time.sleep(max(0.0, place.round().number + 1 - time.time()))
    plan: FederationPlan = plan_for(place.coordinator.identity, federation=OTHER)
    federations.create(place.authority, plan, [], initial_parameters())
    federations.start(place.authority, OTHER)
    place.turn()


def rounds_of(place: Site, federation: str) -> list[Round]:
    with place.authority.database.read() as session:
        query = select(Round).where(Round.federation == federation).order_by(Round.number)
        return list(session.scalars(query))


def answer(place: Site, federation: str, until: Stage | None = None) -> Round:
    """Everybody answers what one federation's round asks, up to before `until`."""
    while (newest := rounds_of(place, federation)[-1]).stage != until:
        if Stage(newest.stage).is_over:
            break
        for one in place.participants:
            one.answer(federation, newest.id, Stage(newest.stage)).raise_for_status()
        place.turn()
    return newest


def end(place: Site, round_: Round) -> None:
    """Let nobody answer any more in a round."""
    with place.authority.database.write() as session:
        session.execute(update_rows(Round).where(Round.id == round_.id).values(deadline=0.0))
    place.turn()


def open_again(place: Site, federation: str) -> None:
    """The federation's next round, now."""
    with place.authority.database.write() as session:
        mine = Federation.name == federation
        session.execute(update_rows(Federation).where(mine).values(next_round_at=0.0))
    place.turn()


@pytest.fixture
def half_restored(tmp_path: Path, database_url: str | None) -> Iterator[Site]:
    """A round that everybody has a receipt of is open again, and a later one of another federation
    is over here, too."""
    with site(tmp_path / "home", database_url, count=3) as place:
        place.open_round()
        answer(place, FEDERATION, until=Stage.KEYS)
        start_other(place)
        assert answer(place, OTHER).stage == Stage.RELEASED
        backup = back_up(place)
        assert answer(place, FEDERATION).stage == Stage.RELEASED
        assert charged(place) == 1
        restore(place, backup)
        assert (charged(place), charged(place, OTHER)) == (0, 1)
        assert rounds_of(place, FEDERATION)[0].stage == Stage.KEYS
        yield place


def test_a_lost_round_is_charged_though_another_federations_newer_one_is_known(
    half_restored: Site,
) -> None:
    place = half_restored
    end(place, rounds_of(place, FEDERATION)[0])
    assert charged(place) == 0
    open_again(place, OTHER)
    answer(place, OTHER, until=Stage.KEYS)
    assert (charged(place), charged(place, OTHER)) == (1, 1)
    assert place.last_facts().reason == "recovered from a receipt"
    assert answer(place, OTHER).stage == Stage.RELEASED
    assert (charged(place), charged(place, OTHER)) == (1, 2)


def test_no_other_round_goes_on_while_the_lost_one_is_open_again(half_restored: Site) -> None:
    place = half_restored
    open_again(place, OTHER)
    answer(place, OTHER, until=Stage.KEYS)
    failed = rounds_of(place, OTHER)[-1]
    assert (failed.stage, failed.reason) == (
        Stage.FAILED, "a receipt names a round that is not over yet",
    )  # fmt: skip
    assert charged(place, OTHER) == 1
    end(place, rounds_of(place, FEDERATION)[0])
    open_again(place, OTHER)
    answer(place, OTHER, until=Stage.KEYS)
    assert (charged(place), charged(place, OTHER)) == (1, 1)


def test_the_sum_of_others_in_the_same_round_is_charged_as_well(
    tmp_path: Path, database_url: str | None
) -> None:
    """Before the restore and after it the round was opened, for other survivors each time."""
    with site(tmp_path / "home", database_url, count=6) as place:
        everybody = place.participants
        place.open_round()
        backup = back_up(place)
        place.participants = everybody[:3]
        assert place.play().stage == Stage.RELEASED
        restore(place, backup)
        place.participants = everybody[3:]
        assert place.play().stage == Stage.RELEASED
        assert charged(place) == 1
        place.participants = everybody
        place.open_round()
        place.play(until=Stage.KEYS)
        assert charged(place) == 2
