"""The node's tables of its part in federations."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from storage.declarative import now
from storage.node_tables import Base


class ConsentPolicyRow(Base):
    """The owner's policy (`federation.participant.policy`), canonical JSON; one row."""

    __tablename__ = "consent_policy"
    id: Mapped[int] = mapped_column(primary_key=True)
    policy: Mapped[bytes]
    changed_at: Mapped[int] = mapped_column(default=now)


class MembershipState(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    REVOKED = "revoked"
    LEFT = "left"


class Membership(Base):
    """A coordinator that the node has enrolled with; keys are public ones, hexadecimal."""

    __tablename__ = "membership"
    id: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    coordinator: Mapped[str]
    name: Mapped[str]
    identity: Mapped[str] = mapped_column(unique=True)
    state: Mapped[MembershipState] = mapped_column(default=MembershipState.PENDING)
    paused: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[int] = mapped_column(default=now)
    population: Mapped[str | None]
    roster: Mapped[bytes | None]
    """The signed roster that was seen last."""


class FormerIdentity(Base):
    """A key that was rotated away: what it signed is still evidence of debits."""

    __tablename__ = "former_identity"
    identity: Mapped[str] = mapped_column(primary_key=True)
    membership_id: Mapped[str] = mapped_column(ForeignKey("membership.id"), index=True)


class ConfirmedPeer(Base):
    """A participant whose fingerprint the owner has compared out of band."""

    __tablename__ = "confirmed_peer"
    membership_id: Mapped[str] = mapped_column(ForeignKey("membership.id"), primary_key=True)
    identity: Mapped[str] = mapped_column(primary_key=True)
    confirmed_at: Mapped[int] = mapped_column(default=now)


class KnownPlan(Base):
    """A federation's signed plan, and why the node takes no part in it; a reason a line."""

    __tablename__ = "known_plan"
    plan_hash: Mapped[str] = mapped_column(primary_key=True)
    membership_id: Mapped[str] = mapped_column(ForeignKey("membership.id"), index=True)
    federation: Mapped[str]
    plan: Mapped[bytes]
    refusals: Mapped[str] = mapped_column(default="")
    seen_at: Mapped[int] = mapped_column(default=now)


class Outcome(StrEnum):
    """How far the node went in a round. From SENT on, the round is paid for."""

    ENLISTED = "enlisted"
    SENT = "sent"
    FINISHED = "finished"
    LEFT = "left"


class Contribution(Base):
    """A round that the node entered; the largest number of a plan is never entered again."""

    __tablename__ = "contribution"
    round_id: Mapped[str] = mapped_column(primary_key=True)
    plan_hash: Mapped[str] = mapped_column(ForeignKey("known_plan.plan_hash"), index=True)
    federation: Mapped[str]
    number: Mapped[int]
    seen_at: Mapped[float]
    """When the announcement was seen, seconds since the epoch: uploads are timed from it."""
    outcome: Mapped[Outcome] = mapped_column(default=Outcome.ENLISTED)
    reason: Mapped[str | None]
    sent_at: Mapped[int | None]
    sent_bytes: Mapped[int | None]
    sent_hash: Mapped[str | None]
    receipt: Mapped[bytes | None]


class VersionState(StrEnum):
    """What the node does with a shared version; nobody else learns it."""

    SERVED = "served"
    HARMFUL = "harmful"
    UNTESTED = "untested"
    REFUSED = "refused"
    RETIRED = "retired"


class SharedVersion(Base):
    """A version of shared parameters, and what its trial on held-back questions said."""

    __tablename__ = "shared_version"
    plan_hash: Mapped[str] = mapped_column(ForeignKey("known_plan.plan_hash"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    record: Mapped[bytes]
    parameters: Mapped[bytes] = mapped_column(deferred=True)
    state: Mapped[VersionState]
    pinned: Mapped[bool] = mapped_column(default=False)
    examples: Mapped[int] = mapped_column(default=0)
    before: Mapped[float | None]
    after: Mapped[float | None]
    tried_at: Mapped[int] = mapped_column(default=now)
