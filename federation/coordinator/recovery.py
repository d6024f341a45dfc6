"""What receipts tell a coordinator that was restored from an old backup.

A receipt that names a round which this database does not know was signed by a coordinator that had
come further. Whether that round's sum was opened is unknown here, so its budget counts as spent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.coordinator import federations, populations, records, versions
from federation.coordinator.authority import Authority
from federation.invitation import Stage
from privacy.budget import BudgetError
from privacy.ledger import Ledger
from privacy.receipts import Receipt, RoundStatement
from storage.coordinator_tables import Federation, FederationState, Round
from storage.coordinator_tables import Receipt as ReceiptRow

SUFFIX = "/recovered"
"""Of the second record about a round that this ledger had closed too early."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """Whether everything that receipts tell of is accounted for now.

    Attributes:
        is_pending: a receipt is of a round that is not over here, and whose sum may have been
            opened before the restore: what it costs is seen when the round has ended.
        is_lost: a receipt is of a round that cannot be charged, for one because the backup does
            not have its plan. Nothing may be run in this population.
    """

    is_pending: bool
    is_lost: bool


def recover(
    session: Session, authority: Authority, population: str, receipts: Iterable[Receipt]
) -> Recovery:
    """Charge every round that only its receipts remember; the population is locked.

    A federation that cannot be charged for such a round is stopped.

    Args:
        receipts: verified, of this population and signed by this coordinator.
    """
    by_round: dict[RoundStatement, set[Receipt]] = {}
    for receipt in receipts:
        by_round.setdefault(receipt.signed.statement, set()).add(receipt)
    is_pending = is_lost = False
    for statement, held in by_round.items():
        known = session.get(Round, statement.round_id)
        kept = populations.locked_ledger(session, population)
        if _are_stored(session, statement, held) or _is_paid(known, kept, statement):
            continue
        if known is not None and known.ended_at is None:
            is_pending = True
        elif not _charge(session, authority, kept, statement, tuple(held)):
            is_lost = True
    return Recovery(is_pending, is_lost)


def _are_stored(session: Session, statement: RoundStatement, held: Iterable[Receipt]) -> bool:
    """Whether all came to this coordinator while it collected them for their round.

    Whatever became of that round, no receipt tells more of it. Any other may be from a coordinator
    that went on with it.
    """
    query = select(ReceiptRow.receipt).where(ReceiptRow.round_id == statement.round_id)
    stored = set(session.scalars(query))
    return all(receipt.to_bytes() in stored for receipt in held)


def _is_paid(known: Round | None, ledger: Ledger, statement: RoundStatement) -> bool:
    """Whether the sum that a statement is about is charged; a round may have had two sums, one of
    them before the restore."""
    if ledger.round(statement.federation, statement.round_id + SUFFIX) is not None:
        return True
    logged = ledger.round(statement.federation, statement.round_id)
    if logged is not None and logged.round is not None:
        facts = logged.round.facts
        return facts.charged and facts.survivors_hash == statement.survivors_hash
    if known is None or known.stage != Stage.UNMASKING or known.statement is None:
        return False
    return records.read_statement(known.statement).statement == statement


def _charge(
    session: Session,
    authority: Authority,
    ledger: Ledger,
    statement: RoundStatement,
    receipts: tuple[Receipt, ...],
) -> bool:
    federation = session.get(Federation, statement.federation)
    if federation is None or federation.plan_hash != statement.plan_hash:
        return False
    plan = federations.plan_of(federation, authority)
    budget = populations.budget(session, federation.population)
    slot = federations.next_slot(budget, plan)
    try:
        if slot is None:
            name = f"{plan.hash}{SUFFIX}/{statement.round_id}"
            reserved = budget.reserve(plan.run, [name])
            federations.record_events(session, federation.population, budget, reserved)
        else:
            name = federations.slot_name(plan.hash, slot)
    except BudgetError:
        federation.state = FederationState.STOPPED
        federation.reason = "a receipt of a lost round cannot be charged: the budget is spent"
        return False
    charged = budget.charge(plan.hash, name)
    federations.record_events(session, federation.population, budget, charged)
    round_id = statement.round_id
    if ledger.round(statement.federation, round_id) is not None:
        round_id += SUFFIX
    model = versions.newest(session, federation.name).parameters_hash
    facts = records.recovered(plan, round_id, model, receipts)
    populations.append_round(session, authority, federation.population, facts)
    return True
