"""What the owner sees of all plans together."""

from __future__ import annotations

from pathlib import Path

from federation.participant import overview
from storage.membership_tables import Contribution, KnownPlan, Membership, Outcome
from tests.nodes import open_database

PLANS = ("a" * 64, "b" * 64)


def test_rounds_of_two_federations_are_listed_by_when_they_were_seen(tmp_path: Path) -> None:
    """Their numbers are compared within a plan only: coordinators' clocks need not agree."""
    seen = [("first", 0, 9), ("second", 1, 1), ("third", 0, 10), ("fourth", 1, 2)]
    with open_database(tmp_path / "node.db") as database:
        with database.write() as session:
            session.add(
                Membership(id="m", url="https://c", coordinator="c0" * 32, name="n", identity="i")
            )
            session.flush()
            for plan in PLANS:
                session.add(KnownPlan(plan_hash=plan, membership_id="m", federation="f", plan=b""))
            session.flush()
            for time, (round_id, plan, number) in enumerate(seen):
                session.add(
                    Contribution(
                        round_id=round_id,
                        plan_hash=PLANS[plan],
                        federation="f",
                        number=number,
                        seen_at=float(time),
                        outcome=Outcome.SENT if round_id == "first" else Outcome.LEFT,
                        sent_at=5 if round_id == "first" else None,
                        receipt=b"signed" if round_id == "first" else None,
                    )
                )
        with database.read() as session:
            listed = [row.round_id for row in overview.contributions(session)]
            assert listed == ["fourth", "third", "second", "first"]
            assert overview.receipt(session, "first") == b"signed"
            assert overview.receipt(session, "second") is None
            assert overview.receipt(session, "unknown") is None
