"""A served coordinator with ledgers to look at: of real rounds, without a round, and broken."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from federation.coordinator import federations, populations
from federation.coordinator.authority import Authority
from federation.invitation import Stage
from federation.plan import FederationPlan
from privacy.canonical import canonical_bytes
from privacy.ledger_records import SealedRecord
from privacy.limits import RenyiFilter, Unit
from privacy.plan import Mode, smallest_row_cap
from privacy.records import to_json
from storage import staff_keys
from storage.coordinator_tables import LedgerLine, Role
from tests.coordinators import (
    BASIS,
    FEDERATION,
    PASSAGES,
    POPULATION,
    Site,
    initial_parameters,
    plan_for,
    privacy_plan,
    site,
)
from tests.served import start_coordinator

HURT = "<img src=x onerror='window.hurt = 1'><script>window.hurt = 1</script>"
BROKEN, EMPTY = "altered", "schools"
"""Populations: one whose ledger was changed in the database, and one without federations."""
BROKEN_LINES = 30
UNUSED = "letters"
"""A federation of POPULATION in another mode, of which no round was run."""
RELEASED = 4
FIRST_LIMIT, LIMIT = 6.0, 7.0


@dataclass(frozen=True)
class ServedLedgers:
    """A coordinator's process, and keys of its staff."""

    home: Path
    url: str
    admin: str
    auditor: str


@contextmanager
def served_ledgers(folder: Path) -> Iterator[ServedLedgers]:
    """POPULATION has RELEASED rounds and one that failed, six receipts and a raised limit."""
    home = folder / "home"
    with site(home, count=3, plan=_document_plan, epsilon=FIRST_LIMIT) as place:
        for number in range(RELEASED + 1):
            place.open_round()
            place.play(drops={Stage.ENLISTING: place.participants if number == 2 else []})
            if number == 3:
                populations.change_epsilon(place.authority, POPULATION, LIMIT)
        federations.pause(place.authority, FEDERATION, "the holidays")
        _other_books(place)
        with place.coordinator.database.write() as session:
            admin = staff_keys.create(session, "admin", Role.ADMIN).token
            auditor = staff_keys.create(session, "auditor", Role.AUDITOR).token
    process, url = start_coordinator(home)
    try:
        yield ServedLedgers(home, url, admin, auditor)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        shutil.rmtree(home)


def _document_plan(identity: str) -> FederationPlan:
    """Its model's name, which an admin chooses, is hostile."""
    privacy = privacy_plan(
        mode=Mode.DOCUMENT,
        noise_multiplier=3.0,
        colluders=1,
        rounds=12,
        max_participations=10,
        planned_rows=2000,
        row_cap=smallest_row_cap(2000, 1.0),
    )
    plan = plan_for(identity, privacy)
    return replace(plan, adapter=replace(plan.adapter, base_model=HURT))


def _other_books(place: Site) -> None:
    authority = place.authority
    unused = plan_for(
        authority.identity,
        privacy_plan(noise_multiplier=8.0, rounds=2, max_participations=2),
        federation=UNUSED,
    )
    federations.create(authority, unused, [BASIS, PASSAGES], initial_parameters())
    for name in (BROKEN, EMPTY):
        populations.create(authority, name, RenyiFilter(Unit.NODE, 8, 8.0, 1e-5))
    _alter(authority, place.ledger())


def _alter(authority: Authority, ledger: list[SealedRecord]) -> None:
    """BROKEN gets a round of another ledger under another name, then lines that are no records."""
    (sealed, *_) = (line for line in ledger if line.record.round is not None)
    round_ = sealed.record.round
    assert round_ is not None
    facts = replace(round_.facts, federation=HURT)
    record = replace(sealed.record, population=BROKEN, round=replace(round_, facts=facts))
    line = canonical_bytes(to_json(replace(sealed, record=record))) + b"\n"
    with authority.database.write() as session:
        session.add(LedgerLine(population=BROKEN, sequence=1, line=line))
        for place in range(2, BROKEN_LINES):
            session.add(LedgerLine(population=BROKEN, sequence=place, line=HURT.encode() + b"\n"))
