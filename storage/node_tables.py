"""The node's tables. The database is the truth; indexes on disk are derived from it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, ForeignKey, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from storage.declarative import COLUMN_TYPES, NAMING_CONVENTION, now


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {**COLUMN_TYPES, dict[str, Any]: JSON}  # noqa: RUF012


class WeightSource(StrEnum):
    """What an assistant's weight was learned from; labels are not overruled by titles."""

    LABELS = "labels"
    TITLES = "titles"


class Assistant(Base):
    """One private assistant: its documents, its index, its keys. `name` is its model id."""

    __tablename__ = "assistant"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str] = mapped_column(default="")
    created_at: Mapped[int] = mapped_column(default=now)
    embedder: Mapped[str]
    lexical_weight: Mapped[float | None]
    weight_source: Mapped[WeightSource | None]
    instructions: Mapped[str] = mapped_column(default="")
    """What stands in every prompt of this assistant."""
    conversation_days: Mapped[int | None]
    """For how long conversations are kept; None: they are not."""
    personal_hours: Mapped[int | None]
    """How often the personal adapter is trained by itself; None: when asked."""

    # AUTOINCREMENT: an id in an index on disk must never come to mean another row.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012


class Scope(StrEnum):
    """What a key may do: an owner manages, a user asks."""

    OWNER = "owner"
    USER = "user"


class Key(Base):
    """An API key; only the SHA-256 of its secret is kept. Its secret has 256 random bits."""

    __tablename__ = "key"
    id: Mapped[str] = mapped_column(primary_key=True)
    secret_hash: Mapped[bytes]
    label: Mapped[str]
    scope: Mapped[Scope]
    every_assistant: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[int] = mapped_column(default=now)
    revoked_at: Mapped[int | None]
    instructions: Mapped[str] = mapped_column(default="")
    """What stands in every prompt of this key, after the assistant's."""
    feedback_is_approved: Mapped[bool] = mapped_column(default=False)
    """Whether the owner trusts this key's feedback without looking at it."""
    assistants: Mapped[list[Assistant]] = relationship(
        secondary="key_assistant", order_by=Assistant.id
    )


class KeyAssistant(Base):
    """Which assistants a key may see."""

    __tablename__ = "key_assistant"
    key_id: Mapped[str] = mapped_column(ForeignKey("key.id", ondelete="CASCADE"), primary_key=True)
    assistant_id: Mapped[int] = mapped_column(
        ForeignKey("assistant.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class Document(Base):
    """One version of one document; the original file is not kept, its text is (Chunk)."""

    __tablename__ = "document"
    id: Mapped[str] = mapped_column(primary_key=True)
    assistant_id: Mapped[int] = mapped_column(ForeignKey("assistant.id", ondelete="CASCADE"))
    external_id: Mapped[str | None]
    name: Mapped[str]
    title: Mapped[str]
    media_type: Mapped[str]
    attributes: Mapped[dict[str, Any]] = mapped_column(default=dict)
    content_hash: Mapped[bytes]
    size: Mapped[int]
    pages: Mapped[int | None]
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[int] = mapped_column(default=now)
    updated_at: Mapped[int] = mapped_column(default=now)

    __table_args__ = (
        UniqueConstraint("assistant_id", "content_hash"),
        UniqueConstraint("assistant_id", "external_id"),
    )


class Chunk(Base):
    """A passage with its vector (float32, little-endian). Rows are never updated."""

    __tablename__ = "chunk"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    assistant_id: Mapped[int] = mapped_column(
        ForeignKey("assistant.id", ondelete="CASCADE"), index=True
    )
    document_id: Mapped[str] = mapped_column(
        ForeignKey("document.id", ondelete="CASCADE"), index=True
    )
    position: Mapped[int]
    heading: Mapped[str]
    page: Mapped[int | None]
    text: Mapped[str]
    vector: Mapped[bytes]

    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012


class JobKind(StrEnum):
    INGEST = "ingest"
    ERASE = "erase"
    PERSONAL = "personal"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Job(Base):
    """Work that outlives its request and resumes after a crash."""

    __tablename__ = "job"
    id: Mapped[str] = mapped_column(primary_key=True)
    assistant_id: Mapped[int] = mapped_column(
        ForeignKey("assistant.id", ondelete="CASCADE"), index=True
    )
    kind: Mapped[JobKind]
    state: Mapped[JobState] = mapped_column(default=JobState.QUEUED, index=True)
    created_at: Mapped[int] = mapped_column(default=now)
    finished_at: Mapped[int | None]
    result: Mapped[dict[str, Any] | None]
    items: Mapped[list[JobItem]] = relationship(order_by="JobItem.position", back_populates="job")


class ItemState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    DUPLICATE = "duplicate"
    FAILED = "failed"


class JobItem(Base):
    """One uploaded file of an ingest job, the document of an erase job, or the adapter of a
    personal one, whose steps are counted in `chunks`."""

    __tablename__ = "job_item"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    name: Mapped[str]
    external_id: Mapped[str | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(default=dict)
    upload: Mapped[str | None]
    size: Mapped[int] = mapped_column(default=0)
    state: Mapped[ItemState] = mapped_column(default=ItemState.PENDING)
    chunks: Mapped[int | None]
    chunks_done: Mapped[int] = mapped_column(default=0)
    document_id: Mapped[str | None] = mapped_column(index=True)
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    job: Mapped[Job] = relationship(back_populates="items")

    # AUTOINCREMENT: work on a file whose job was deleted must not fall to a newer file.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012


class ConversationTurn(Base):
    """A question and its answer, kept only where the owner has asked for that; see `Assistant`."""

    __tablename__ = "conversation_turn"
    id: Mapped[str] = mapped_column(primary_key=True)
    """The id of the completion."""
    assistant_id: Mapped[int] = mapped_column(
        ForeignKey("assistant.id", ondelete="CASCADE"), index=True
    )
    key_id: Mapped[str | None] = mapped_column(ForeignKey("key.id", ondelete="SET NULL"))
    chat_id: Mapped[str | None]
    """Whatever the front-end calls the conversation."""
    created_at: Mapped[int] = mapped_column(default=now, index=True)
    question: Mapped[str]
    answer: Mapped[str]
    passages: Mapped[list[TurnPassage]] = relationship(
        order_by="TurnPassage.position", cascade="all", passive_deletes=True
    )


class TurnPassage(Base):
    """A passage that the generator read for an answer; `position` counts from 0."""

    __tablename__ = "turn_passage"
    turn_id: Mapped[str] = mapped_column(
        ForeignKey("conversation_turn.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    document_id: Mapped[str] = mapped_column(
        ForeignKey("document.id", ondelete="CASCADE"), index=True
    )
    passage: Mapped[str]


class FeedbackState(StrEnum):
    """Only approved feedback becomes an example."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class Feedback(Base):
    """What somebody thought of an answer; `rating` is 1 or -1, or 0 if passages alone are rated."""

    __tablename__ = "feedback"
    id: Mapped[int] = mapped_column(primary_key=True)
    assistant_id: Mapped[int] = mapped_column(
        ForeignKey("assistant.id", ondelete="CASCADE"), index=True
    )
    key_id: Mapped[str | None] = mapped_column(ForeignKey("key.id", ondelete="SET NULL"))
    completion_id: Mapped[str | None]
    created_at: Mapped[int] = mapped_column(default=now)
    state: Mapped[FeedbackState] = mapped_column(default=FeedbackState.PENDING)
    question: Mapped[str]
    answer: Mapped[str | None]
    rating: Mapped[int]
    reason: Mapped[str | None]
    corrected_answer: Mapped[str | None]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What else the client sent along."""
    question_id: Mapped[int | None] = mapped_column(
        ForeignKey("labelled_question.id", ondelete="SET NULL"), unique=True
    )
    """The example that was made of it when it was approved; erased with it."""
    passages: Mapped[list[RatedPassage]] = relationship(
        order_by="RatedPassage.id", cascade="all", passive_deletes=True
    )

    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012


class RatedPassage(Base):
    """A passage that an answer cited; `rating` is 1, -1, or 0 where nothing was said of it."""

    __tablename__ = "rated_passage"
    id: Mapped[int] = mapped_column(primary_key=True)
    feedback_id: Mapped[int] = mapped_column(
        ForeignKey("feedback.id", ondelete="CASCADE"), index=True
    )
    document_id: Mapped[str] = mapped_column(
        ForeignKey("document.id", ondelete="CASCADE"), index=True
    )
    passage: Mapped[str]
    rating: Mapped[int]


class QuestionOrigin(StrEnum):
    """Where a labelled question comes from; feedback is shared by a separate opt-in only."""

    UPLOAD = "upload"
    FEEDBACK = "feedback"


class LabelledQuestion(Base):
    """A question of an assistant with what answers it; material for training."""

    __tablename__ = "labelled_question"
    id: Mapped[int] = mapped_column(primary_key=True)
    assistant_id: Mapped[int] = mapped_column(
        ForeignKey("assistant.id", ondelete="CASCADE"), index=True
    )
    text: Mapped[str]
    answer: Mapped[str | None]
    subject: Mapped[str | None]
    origin: Mapped[QuestionOrigin] = mapped_column(default=QuestionOrigin.UPLOAD)
    created_at: Mapped[int] = mapped_column(default=now)
    relevant: Mapped[list[RelevantPassage]] = relationship(
        order_by="RelevantPassage.id", cascade="all", passive_deletes=True
    )

    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012


class RelevantPassage(Base):
    """What answers a labelled question, or does not though it was cited for it: a passage by its
    public id, or a whole document."""

    __tablename__ = "relevant_passage"
    id: Mapped[int] = mapped_column(primary_key=True)
    question_id: Mapped[int] = mapped_column(
        ForeignKey("labelled_question.id", ondelete="CASCADE"), index=True
    )
    document_id: Mapped[str] = mapped_column(
        ForeignKey("document.id", ondelete="CASCADE"), index=True
    )
    passage: Mapped[str | None]
    is_relevant: Mapped[bool] = mapped_column(default=True)


class HiddenHeading(Base):
    """A heading of a document of which the owner wants no question made."""

    __tablename__ = "hidden_heading"
    document_id: Mapped[str] = mapped_column(
        ForeignKey("document.id", ondelete="CASCADE"), primary_key=True
    )
    heading: Mapped[str] = mapped_column(primary_key=True)


class PersonalKind(StrEnum):
    """Which of an assistant's models a personal adapter changes."""

    RETRIEVER = "retriever"
    GENERATOR = "generator"


class PersonalState(StrEnum):
    """What is done with a personal version. At most one of a kind is served."""

    SERVED = "served"
    KEPT = "kept"
    WORSE = "worse"


class PersonalVersion(Base):
    """A personal adapter of an assistant and what its evaluation said; it never leaves the node
    unless the owner exports it. The row of one that learned from something erased is deleted."""

    __tablename__ = "personal_version"
    id: Mapped[int] = mapped_column(primary_key=True)
    assistant_id: Mapped[int] = mapped_column(
        ForeignKey("assistant.id", ondelete="CASCADE"), index=True
    )
    kind: Mapped[PersonalKind]
    state: Mapped[PersonalState]
    created_at: Mapped[int] = mapped_column(default=now)
    shared: Mapped[str | None]
    """The shared version that it is added to; None: to the model as it is."""
    config: Mapped[dict[str, Any]]
    parameters: Mapped[bytes] = mapped_column(deferred=True)
    examples: Mapped[int]
    before: Mapped[float | None]
    after: Mapped[float | None]
    """On held-back examples, with the shared version alone and with both: MRR@10 of a retriever,
    the mean loss of a generator."""

    # AUTOINCREMENT: an id that the engine still holds must never come to mean another adapter.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012


class PersonalSource(Base):
    """A document that a personal version learned from, was compared on or was pushed away from."""

    __tablename__ = "personal_source"
    version_id: Mapped[int] = mapped_column(
        ForeignKey("personal_version.id", ondelete="CASCADE"), primary_key=True
    )
    document_id: Mapped[str] = mapped_column(primary_key=True, index=True)


class PersonalQuestion(Base):
    """A labelled question that a personal version learned from or was compared on."""

    __tablename__ = "personal_question"
    version_id: Mapped[int] = mapped_column(
        ForeignKey("personal_version.id", ondelete="CASCADE"), primary_key=True
    )
    question_id: Mapped[int] = mapped_column(primary_key=True, index=True)


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
