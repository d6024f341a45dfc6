"""What receipts tell a coordinator that was restored from an old backup.

A receipt that names a round which this database does not know was signed by a coordinator that had
come further. Whether that round's sum was opened is unknown here, so its budget counts as spent.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.coordinator import federations, populations, records, versions
from federation.coordinator.authority import Authority
from privacy.budget import BudgetError
from privacy.ledger import Ledger
from privacy.receipts import Receipt, RoundStatement
from storage.coordinator_tables import Federation, FederationState, Round
from storage.coordinator_tables import Receipt as ReceiptRow

SUFFIX = "/recovered"
"""Of the second record about a round that this ledger had closed too early."""


def recover(
    session: Session, authority: Authority, population: str, receipts: Iterable[Receipt]
) -> bool:
    """Charge every round that only its receipts remember; the population is locked.

    A federation that cannot be charged for such a round is stopped.

    Args:
        receipts: verified, of this population and signed by this coordinator.

    Returns:
        Whether all of them are accounted for now. If not, nothing may be run in this population:
        a receipt names a plan that the backup did not have.
    """
    by_round: dict[RoundStatement, set[Receipt]] = {}
    for receipt in receipts:
        by_round.setdefault(receipt.signed.statement, set()).add(receipt)
    complete = True
    for statement, held in by_round.items():
        kept = populations.locked_ledger(session, population)
        if not _is_known(session, kept, statement, held):
            complete &= _charge(session, authority, kept, statement, tuple(held))
    return complete


def _is_known(
    session: Session, ledger: Ledger, statement: RoundStatement, held: Iterable[Receipt]
) -> bool:
    name = statement.federation, statement.round_id
    if ledger.round(name[0], name[1] + SUFFIX) is not None:
        return True
    known = session.get(Round, statement.round_id)
    if known is not None and known.ended_at is None:
        return True
    logged = ledger.round(*name)
    if logged is None or logged.round is None:
        return False
    if logged.round.facts.charged:
        return True
    # Of a round that failed here unpaid only receipts that came before it failed are harmless: any
    # other may be from a coordinator that went on with it.
    query = select(ReceiptRow.receipt).where(ReceiptRow.round_id == statement.round_id)
    stored = set(session.scalars(query))
    return all(receipt.to_bytes() in stored for receipt in held)


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
