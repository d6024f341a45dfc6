"""What the ledger says about a round that has ended."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.coordinator import provenance
from federation.plan import FederationPlan
from federation.secagg.degree import CORRECTNESS_BITS, SECURITY_BITS
from privacy.canonical import parse_canonical
from privacy.ledger_records import Aggregation, Result, RoundFacts
from privacy.receipts import Receipt, SignedStatement, receipts_hash
from privacy.records import from_json
from storage.coordinator_tables import Receipt as ReceiptRow
from storage.coordinator_tables import Round


def aborted(
    session: Session, plan: FederationPlan, round_: Round, model_in: str, charged: bool, reason: str
) -> RoundFacts:
    """The facts of a round that released nothing."""
    return _facts(session, plan, round_, model_in, charged, reason)


def released(
    session: Session, plan: FederationPlan, round_: Round, model_in: str, model_out: str
) -> RoundFacts:
    """The facts of a round that released a version."""
    facts = _facts(session, plan, round_, model_in, True, "")
    return replace(facts, model_out=model_out, result=Result.RELEASED, reason=None)


def recovered(
    plan: FederationPlan, round_id: str, model_in: str, receipts: tuple[Receipt, ...]
) -> RoundFacts:
    """The facts of a round of which only receipts are left.

    How many survived is not in a receipt: what is told is how many are known to.
    """
    return RoundFacts(
        federation=plan.federation,
        round_id=round_id,
        run_id=plan.hash,
        plan=plan.privacy,
        plan_hash=plan.hash,
        code_commit=provenance.code_commit(),
        lock_hash=provenance.lock_hash(),
        model_in=model_in,
        model_out=None,
        aggregation=_aggregation(plan, plan.privacy.cohort),
        survivors=len({receipt.participant for receipt in receipts}),
        survivors_hash=receipts[0].signed.statement.survivors_hash,
        receipts=len(receipts),
        receipts_hash=receipts_hash(receipts),
        charged=True,
        result=Result.ABORTED,
        reason="recovered from a receipt",
    )


def read_statement(data: bytes) -> SignedStatement:
    """A signed statement that this coordinator has stored."""
    return from_json(SignedStatement, parse_canonical(data))


def read_receipts(data: bytes) -> list[Receipt]:
    """Receipts, a line each, that were verified when they were stored."""
    return [from_json(Receipt, parse_canonical(line)) for line in data.splitlines()]


def _facts(
    session: Session, plan: FederationPlan, round_: Round, model_in: str, charged: bool, reason: str
) -> RoundFacts:
    facts = RoundFacts(
        federation=plan.federation,
        round_id=round_.id,
        run_id=plan.hash,
        plan=plan.privacy,
        plan_hash=plan.hash,
        code_commit=provenance.code_commit(),
        lock_hash=provenance.lock_hash(),
        model_in=model_in,
        model_out=None,
        aggregation=_aggregation(plan, round_.joined or plan.privacy.cohort),
        survivors=None,
        survivors_hash=None,
        receipts=None,
        receipts_hash=None,
        charged=charged,
        result=Result.ABORTED,
        reason=reason,
    )
    if round_.statement is None:
        return facts
    stored = session.scalars(select(ReceiptRow.receipt).where(ReceiptRow.round_id == round_.id))
    receipts = [receipt for data in stored for receipt in read_receipts(data)]
    return replace(
        facts,
        survivors=round_.survivors,
        survivors_hash=read_statement(round_.statement).statement.survivors_hash,
        receipts=len(receipts),
        receipts_hash=receipts_hash(receipts),
    )


def _aggregation(plan: FederationPlan, clients: int) -> Aggregation:
    model = plan.aggregation(clients)
    return Aggregation(
        plan.threat_model, model.degree, model.threshold, SECURITY_BITS, CORRECTNESS_BITS
    )
