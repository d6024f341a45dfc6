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
    content_hash: Mapped[bytes | None]
    state: Mapped[ItemState] = mapped_column(default=ItemState.PENDING, index=True)
    chunks: Mapped[int | None]
    chunks_done: Mapped[int] = mapped_column(default=0)
    document_id: Mapped[str | None] = mapped_column(index=True)
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    job: Mapped[Job] = relationship(back_populates="items")

    # AUTOINCREMENT: work on a file whose job was deleted must not fall to a newer file.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012
