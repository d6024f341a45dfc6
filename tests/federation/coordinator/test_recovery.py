"""A coordinator that was restored from an old backup does not spend a budget again."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy import update as update_rows

from federation.coordinator import populations
from federation.invitation import Stage
from privacy.budget import Step
from privacy.ledger_records import Result
from privacy.verification import verify
from storage.coordinator_tables import (
    BudgetEvent,
    Federation,
    LedgerLine,
    Message,
    Receipt,
    Round,
    VersionRow,
)
from tests.coordinators import FEDERATION, POPULATION, Site, site


def charged(place: Site) -> int:
    run_id = place.participants[0].plan(FEDERATION).hash
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
        place.open_round()
        place.play(until=Stage.KEYS)
        ended = place.round()
        assert ended.stage == Stage.FAILED
        assert ended.reason is not None and "lost" in ended.reason
        with place.authority.database.read() as session:
            assert session.get_one(Federation, FEDERATION).state == "paused"
