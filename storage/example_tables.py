"""The node's tables of what people say, what is learnt from it, and personal adapters."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from storage.declarative import now
from storage.node_tables import Base


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


SOURCES = "sources"
"""In `Feedback.details`: the passages that the answer's marks [1], [2], ... stand for, if known."""
FIRST = "first"
"""In `Feedback.details`: the question is known to have begun its conversation."""


class Feedback(Base):
    """What somebody thought of an answer; `rating` is 1 or -1, or 0 if passages alone are rated."""

    __tablename__ = "feedback"
    id: Mapped[int] = mapped_column(primary_key=True)
    assistant_id: Mapped[int] = mapped_column(
        ForeignKey("assistant.id", ondelete="CASCADE"), index=True
    )
    key_id: Mapped[str | None] = mapped_column(
        ForeignKey("key.id", ondelete="SET NULL"), index=True
    )
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
    """Where a labelled question comes from; feedback is shared by a separate opt-in only.

    A correction is feedback that says how to answer and not by what: its passages are those that
    the corrected answer was written from, so it teaches the personal generator alone.
    """

    UPLOAD = "upload"
    FEEDBACK = "feedback"
    CORRECTION = "correction"


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
