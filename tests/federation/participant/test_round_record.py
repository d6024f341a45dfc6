"""The receipts that a node encloses when it enlists."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.messages import every_receipt, newest_receipts
from federation.participant.round_record import RoundRecord
from privacy.receipts import Receipt, RoundStatement, SignedStatement
from privacy.signing import public_key_hex
from storage.membership_tables import Contribution, KnownPlan, Membership, Outcome
from tests.nodes import open_database

PLANS = ("a" * 64, "b" * 64)


def test_the_newest_of_every_plan_or_all_of_the_memberships_own(tmp_path: Path) -> None:
    """A coordinator that was restored may have lost a round of one plan and not of another."""
    coordinator, own, former = (Ed25519PrivateKey.generate() for _ in range(3))

    def receipt(round_id: str, plan: str, key: Ed25519PrivateKey) -> bytes:
        said = RoundStatement("p", "f", round_id, plan, "5" * 64, "6" * 64)
        return Receipt.countersign(SignedStatement.issue(said, coordinator), key).to_bytes()

    made = [("a1", 0, 1, own), ("a2", 0, 2, own), ("b1", 1, 9, own), ("a0", 0, 10, former)]
    with open_database(tmp_path / "node.db") as database:
        with database.write() as session:
            session.add(
                Membership(id="m", url="https://c", coordinator="c0" * 32, name="n", identity="i")
            )
            session.flush()
            for plan in PLANS:
                session.add(KnownPlan(plan_hash=plan, membership_id="m", federation="f", plan=b""))
            session.flush()
            for round_id, plan_number, number, key in reversed(made):
                plan = PLANS[plan_number]
                session.add(
                    Contribution(
                        round_id=round_id, plan_hash=plan, federation="f", number=number,
                        seen_at=0.0, outcome=Outcome.FINISHED, receipt=receipt(round_id, plan, key),
                    )
                )  # fmt: skip
        held = RoundRecord(database, tmp_path).receipts("m", public_key_hex(own))

    def rounds(body: bytes) -> list[str]:
        lines = body.splitlines()
        return sorted(Receipt.from_bytes(line).signed.statement.round_id for line in lines)

    newest, every = newest_receipts(held), every_receipt(held)
    assert rounds(newest) == ["a2", "b1"] and not newest.endswith(b"\n")
    assert rounds(every) == ["a1", "a2", "b1"] and every.endswith(b"\n")
