"""What the owner may see of the node's part in federations; kept by `FederationService`."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.membership_tables import Contribution, KnownPlan, SharedVersion


def plans(session: Session) -> Sequence[KnownPlan]:
    """The plans that the node has seen, in that order."""
    return session.scalars(select(KnownPlan).order_by(KnownPlan.seen_at)).all()


def contributions(session: Session) -> Sequence[Contribution]:
    """Every round that the node entered, the newest first."""
    return session.scalars(select(Contribution).order_by(Contribution.seen_at.desc())).all()


def receipt(session: Session, round_id: str) -> bytes | None:
    """The countersigned statement of a round, None if the node has none."""
    return session.scalars(
        select(Contribution.receipt).where(Contribution.round_id == round_id)
    ).one_or_none()


def versions(session: Session) -> Sequence[tuple[SharedVersion, KnownPlan]]:
    """The shared versions that the node has tried, with their plans, the newest trial first."""
    return [
        (version, plan)
        for version, plan in session.execute(
            select(SharedVersion, KnownPlan)
            .join(KnownPlan, KnownPlan.plan_hash == SharedVersion.plan_hash)
            .order_by(SharedVersion.tried_at.desc())
        )
    ]
