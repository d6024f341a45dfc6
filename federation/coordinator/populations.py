"""Populations: a limit, the budget that keeps to it and the ledger that shows it.

Both are logs in the database whose primary keys order their writers. Who appends locks the
population's row first, reads the log and writes in the same transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from federation.coordinator.authority import Authority
from federation.coordinator.refused import conflict, invalid, unknown
from federation.plan import NAME, read_plan
from federation.roster import Roster
from federation.signed import Signed
from privacy.budget import Budget, Event, event_from_json, event_to_json
from privacy.canonical import canonical_bytes, parse_canonical
from privacy.ledger import Ledger, LedgerError
from privacy.ledger_records import LedgerRecord, RoundFacts, seal, unseal
from privacy.limits import RenyiFilter
from privacy.signing import Domain
from storage.coordinator_tables import BudgetEvent, Federation, LedgerLine, Population

_replayed: dict[str, tuple[bytes, Ledger]] = {}
"""By population: the last line that was replayed, and what all lines amount to."""


def create(authority: Authority, name: str, limit: RenyiFilter) -> None:
    """A population without participants; its ledger begins with the limit.

    Raises:
        RefusedError: bad_name, population_exists.
    """
    if not NAME.fullmatch(name):
        raise invalid("bad_name", "a name has 1 to 63 lower-case letters, digits and '-'")
    with authority.database.write() as session:
        if session.get(Population, name) is not None:
            raise conflict("population_exists", f"there is a population {name!r} already")
        roster = Signed.issue(Roster(name, 0, ()), Domain.ROSTER, authority.key)
        session.add(Population(name=name, roster=roster.to_bytes()))
        session.flush()
        store_events(session, name, [Event(0, limit=limit)])
        append(session, authority, Ledger().next_limit(name, limit, timestamp()))


def change_epsilon(authority: Authority, name: str, epsilon: float) -> None:
    """Another epsilon for the limit; unit, order and delta stay as they are.

    Raises:
        RefusedError: unknown_population; bad_limit, no such limit can be; budget_exceeded, it is
            below what is charged and reserved.
    """
    with authority.database.write() as session:
        lock(session, name)
        spending = budget(session, name)
        try:
            event = spending.change_epsilon(epsilon)
        except ValueError as error:
            raise invalid("bad_limit", str(error)) from error
        spending.record(event)
        for plan in session.scalars(select(Federation.plan).where(Federation.population == name)):
            run = read_plan(plan, authority.identity).record.run
            if spending.would_exceed(run, 0):
                raise conflict(
                    "budget_exceeded", f"what is set aside does not fit epsilon {epsilon}"
                )
        store_events(session, name, [event])
        record = ledger(session, name).next_limit(name, spending.limit, timestamp())
        append(session, authority, record)


def lock(session: Session, name: str) -> Population:
    """The population, for this transaction alone to append to its budget and its ledger.

    Raises:
        RefusedError: unknown_population.
    """
    query = select(Population).where(Population.name == name).with_for_update()
    population = session.scalars(query).one_or_none()
    if population is None:
        raise unknown("unknown_population", f"there is no population {name!r}")
    return population


def budget(session: Session, name: str) -> Budget:
    """The budget as its stored events amount to it."""
    rows = session.scalars(
        select(BudgetEvent.event)
        .where(BudgetEvent.population == name)
        .order_by(BudgetEvent.position)
    )
    return Budget(event_from_json(parse_canonical(row)) for row in rows)


def store_events(session: Session, name: str, events: Iterable[Event]) -> None:
    """Append events to the budget's log."""
    session.add_all(
        BudgetEvent(
            population=name, position=event.position, event=canonical_bytes(event_to_json(event))
        )
        for event in events
    )
    session.flush()


def ledger(session: Session, name: str) -> Ledger:
    """The ledger as its stored lines amount to it."""
    replayed = Ledger()
    for line in lines(session, name):
        replayed.append(unseal(line).record)
    return replayed


def lines(session: Session, name: str, start: int = 0, limit: int | None = None) -> Iterator[bytes]:
    """The ledger's sealed lines from sequence `start` on, at most `limit`."""
    return iter(
        session.scalars(
            select(LedgerLine.line)
            .where(LedgerLine.population == name, LedgerLine.sequence >= start)
            .order_by(LedgerLine.sequence)
            .limit(limit)
        )
    )


def ledger_length(session: Session, name: str) -> int:
    """Number of lines."""
    query = select(func.count()).where(LedgerLine.population == name)
    return session.scalar(query) or 0


def append(session: Session, authority: Authority, record: LedgerRecord) -> None:
    """Seal and store a record that `Ledger.next_limit` or `next_round` made."""
    line = seal(record, authority.key)
    session.add(LedgerLine(population=record.population, sequence=record.sequence, line=line))
    session.flush()


def append_round(session: Session, authority: Authority, name: str, facts: RoundFacts) -> None:
    """Log the end of a round; the population is locked.

    Raises:
        LedgerError: it does not continue the ledger.
    """
    kept = locked_ledger(session, name)
    record = kept.next_round(facts, timestamp())
    if problems := kept.problems(record):
        raise LedgerError("; ".join(problems))
    append(session, authority, record)


def locked_ledger(session: Session, name: str) -> Ledger:
    """As `ledger`, for whoever has locked the population, not to be changed.

    Replaying takes milliseconds a line, so each process remembers how far it has come; only lines
    that follow the very last one that it knows are read.
    """
    last, kept = _replayed.pop(name, (b"", Ledger()))
    stored = next(lines(session, name, max(kept.length - 1, 0), 1), b"")
    if kept.length > 0 and stored != last:
        last, kept = b"", Ledger()
    for line in lines(session, name, kept.length):
        kept.append(unseal(line).record)
        last = line
    _replayed[name] = last, kept
    return kept


def head(session: Session, name: str) -> str:
    """Hash of the ledger's last record."""
    query = select(LedgerLine.line).where(LedgerLine.population == name)
    last = session.scalars(query.order_by(LedgerLine.sequence.desc()).limit(1)).one()
    return unseal(last).record.link


def timestamp() -> str:
    """Now, as a ledger writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
