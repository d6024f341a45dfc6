"""The coordinator's tables, in SQLite or PostgreSQL.

Nothing here is derived from one node's data before unmasking but what the protocol sends: sealed
shares, masked vectors (as files, deleted when their round ends) and signatures.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from storage.declarative import COLUMN_TYPES, NAMING_CONVENTION, now


class CoordinatorBase(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # noqa: RUF012
        **COLUMN_TYPES,
        int: BigInteger().with_variant(Integer(), "sqlite"),
    }


class Role(StrEnum):
    """What a key may do: an admin manages, an auditor reads."""

    ADMIN = "admin"
    AUDITOR = "auditor"


class StaffKey(CoordinatorBase):
    """A key of a person at the coordinator; only the SHA-256 of its secret is kept."""

    __tablename__ = "staff_key"
    id: Mapped[str] = mapped_column(primary_key=True)
    secret_hash: Mapped[bytes]
    label: Mapped[str]
    role: Mapped[Role]
    created_at: Mapped[int] = mapped_column(default=now)
    revoked_at: Mapped[int | None]


class Population(CoordinatorBase):
    """A set of participants with one budget (`BudgetEvent`) and one ledger (`LedgerLine`)."""

    __tablename__ = "population"
    name: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[int] = mapped_column(default=now)
    roster_version: Mapped[int] = mapped_column(default=0)
    roster: Mapped[bytes]
    """The signed roster in force (`federation.roster`)."""


class Enrolment(CoordinatorBase):
    """A single-use token; its secret's SHA-256."""

    __tablename__ = "enrolment"
    token_hash: Mapped[str] = mapped_column(primary_key=True)
    population: Mapped[str] = mapped_column(ForeignKey("population.name"))
    label: Mapped[str]
    created_at: Mapped[int] = mapped_column(default=now)
    expires_at: Mapped[int]
    used_by: Mapped[int | None] = mapped_column(ForeignKey("participant.id"))


class ParticipantState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REVOKED = "revoked"


class Participant(CoordinatorBase):
    """An enrolled node; `identity` is its Ed25519 public key, hexadecimal."""

    __tablename__ = "participant"
    id: Mapped[int] = mapped_column(primary_key=True)
    population: Mapped[str] = mapped_column(ForeignKey("population.name"), index=True)
    name: Mapped[str]
    identity: Mapped[str] = mapped_column(unique=True)
    state: Mapped[ParticipantState] = mapped_column(default=ParticipantState.PENDING)
    created_at: Mapped[int] = mapped_column(default=now)
    last_seen_at: Mapped[int | None]

    __table_args__ = (UniqueConstraint("population", "name"),)


class OldIdentity(CoordinatorBase):
    """A key that was rotated away; it is refused for ever, what it signed stays evidence."""

    __tablename__ = "old_identity"
    identity: Mapped[str] = mapped_column(primary_key=True)
    participant_id: Mapped[int] = mapped_column(ForeignKey("participant.id"), index=True)
    rotated_at: Mapped[int] = mapped_column(default=now)


class ParticipantSession(CoordinatorBase):
    """A challenge that was signed, once, and the bearer token that came of it (SHA-256)."""

    __tablename__ = "participant_session"
    challenge: Mapped[str] = mapped_column(primary_key=True)
    participant_id: Mapped[int] = mapped_column(ForeignKey("participant.id"), index=True)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    expires_at: Mapped[int]


class Blob(CoordinatorBase):
    """A public file that plans name by its SHA-256: a basis, public passages."""

    __tablename__ = "blob"
    hash: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[bytes] = mapped_column(deferred=True)


class FederationState(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    FINISHED = "finished"


class Federation(CoordinatorBase):
    """One federation with its signed plan; a changed plan is a new federation."""

    __tablename__ = "federation"
    name: Mapped[str] = mapped_column(primary_key=True)
    population: Mapped[str] = mapped_column(ForeignKey("population.name"), index=True)
    plan: Mapped[bytes]
    plan_hash: Mapped[str] = mapped_column(unique=True)
    state: Mapped[FederationState] = mapped_column(default=FederationState.CREATED)
    reason: Mapped[str | None]
    """Why it was paused by itself or stopped."""
    created_at: Mapped[int] = mapped_column(default=now)
    next_round_at: Mapped[float | None]
    promoted: Mapped[int] = mapped_column(default=0)
    """The version that nodes are told to try."""
    rounds: Mapped[list[Round]] = relationship(order_by="Round.number")


class Round(CoordinatorBase):
    """One round. Whoever changes it sets `revision` one higher where it still is what was read."""

    __tablename__ = "round"
    id: Mapped[str] = mapped_column(primary_key=True)
    federation: Mapped[str] = mapped_column(ForeignKey("federation.name"))
    number: Mapped[int]
    """`Announcement.round_number`: grows, and is made from the time (see there)."""
    slot: Mapped[int]
    """Which of the plan's rounds this is an attempt at; the budget reserves and charges slots."""
    revision: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[float | None]
    """Until when one worker alone computes the next state."""
    stage: Mapped[str]
    deadline: Mapped[float]
    """Seconds since the epoch at the coordinator; nodes are told how many are left."""
    started_at: Mapped[float]
    ended_at: Mapped[float | None] = mapped_column(index=True)
    """None exactly while `stage` is not the last."""
    reason: Mapped[str | None]
    announcement: Mapped[bytes]
    invitation: Mapped[bytes | None]
    state: Mapped[bytes | None] = mapped_column(deferred=True)
    """`federation.secagg.Server.save`; gone when the round is over."""
    statement: Mapped[bytes | None]
    """The signed `RoundStatement`, made once the survivors are settled."""
    survivors: Mapped[int | None]
    joined: Mapped[int | None]

    __table_args__ = (UniqueConstraint("federation", "number"),)


class Message(CoordinatorBase):
    """A participant's message of one stage, accepted once; the payload of MASKED is a file.

    The row without its payload outlives the round: the signature of a masked message is the
    node's own evidence of a debit, should it be restored from a backup.
    """

    __tablename__ = "message"
    round_id: Mapped[str] = mapped_column(ForeignKey("round.id"), primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    participant_id: Mapped[int] = mapped_column(ForeignKey("participant.id"), primary_key=True)
    identity: Mapped[str]
    payload_hash: Mapped[str]
    signature: Mapped[str]
    payload: Mapped[bytes | None] = mapped_column(deferred=True)

    __table_args__ = (Index("ix_message_participant_id_stage", "participant_id", "stage"),)


class Outgoing(CoordinatorBase):
    """What a participant is sent in a stage; gone when the round is over."""

    __tablename__ = "outgoing"
    round_id: Mapped[str] = mapped_column(ForeignKey("round.id"), primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    participant_id: Mapped[int] = mapped_column(ForeignKey("participant.id"), primary_key=True)
    payload: Mapped[bytes] = mapped_column(deferred=True)


class Receipt(CoordinatorBase):
    """A participant's countersigned statement of a round (`privacy.receipts`)."""

    __tablename__ = "receipt"
    round_id: Mapped[str] = mapped_column(ForeignKey("round.id"), primary_key=True)
    participant_id: Mapped[int] = mapped_column(ForeignKey("participant.id"), primary_key=True)
    receipt: Mapped[bytes]


class VersionRow(CoordinatorBase):
    """A released version: the signed record, the vector, and the optimiser's moments after it."""

    __tablename__ = "version"
    federation: Mapped[str] = mapped_column(ForeignKey("federation.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    record: Mapped[bytes]
    parameters_hash: Mapped[str]
    parameters: Mapped[bytes] = mapped_column(deferred=True)
    moments: Mapped[bytes] = mapped_column(deferred=True)
    created_at: Mapped[int] = mapped_column(default=now)


class BudgetEvent(CoordinatorBase):
    """One event of a population's budget (`privacy.budget`); the key orders concurrent writers."""

    __tablename__ = "budget_event"
    population: Mapped[str] = mapped_column(ForeignKey("population.name"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    event: Mapped[bytes]


class LedgerLine(CoordinatorBase):
    """One sealed line of a population's ledger (`privacy.ledger_records`)."""

    __tablename__ = "ledger_line"
    population: Mapped[str] = mapped_column(ForeignKey("population.name"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    line: Mapped[bytes]
