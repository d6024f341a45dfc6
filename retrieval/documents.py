"""The documents of an assistant, as its owner sees them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ScalarSelect, Select, func, select, tuple_
from sqlalchemy.orm import Session

from retrieval import filters
from retrieval.filters import Filter
from storage.node_tables import Chunk, Document


@dataclass(frozen=True, slots=True)
class Page:
    """Documents, newest first, and where the next page starts (None: this is the last)."""

    documents: list[tuple[Document, int]]
    next_after: str | None


def list_page(
    session: Session, assistant_id: int, *, limit: int, after: str | None, where: Filter | None
) -> Page:
    """A page of documents with their numbers of passages; `after` is the last id of the one before.

    Raises:
        FilterError: `where` is malformed.
        KeyError: `after` is not a document of this assistant.
    """
    query = _with_counts().where(Document.assistant_id == assistant_id)
    if where:
        query = query.where(filters.condition(where))
    if after is not None:
        start = get(session, assistant_id, after)
        if start is None:
            raise KeyError(after)
        place = tuple_(Document.created_at, Document.id)
        query = query.where(place < tuple_(start[0].created_at, start[0].id))
    query = query.order_by(Document.created_at.desc(), Document.id.desc()).limit(limit + 1)
    rows = [(row[0], row[1]) for row in session.execute(query)]
    more = len(rows) > limit
    return Page(rows[:limit], rows[limit - 1][0].id if more else None)


def get(session: Session, assistant_id: int, document_id: str) -> tuple[Document, int] | None:
    """A document and its number of passages."""
    query = _with_counts().where(Document.assistant_id == assistant_id, Document.id == document_id)
    row = session.execute(query).one_or_none()
    return None if row is None else (row[0], row[1])


def count(session: Session, assistant_id: int) -> tuple[int, int]:
    """Documents and passages of an assistant."""
    documents, chunks = (
        select(func.count()).where(table.assistant_id == assistant_id).scalar_subquery()
        for table in (Document, Chunk)
    )
    row = session.execute(select(documents, chunks)).one()
    return row[0], row[1]


def passages(
    session: Session, assistant_id: int, document_id: str, *, limit: int, after: int
) -> Sequence[Chunk]:
    """A document's passages in order, from the position behind `after` (-1: from the first)."""
    query = select(Chunk).where(
        Chunk.assistant_id == assistant_id,
        Chunk.document_id == document_id,
        Chunk.position > after,
    )
    return session.scalars(query.order_by(Chunk.position).limit(limit)).all()


def passage(
    session: Session, assistant_ids: Collection[int] | None, chunk_id: str
) -> tuple[Chunk, Document] | None:
    """A passage of one of these assistants (None: of any) by its public id, and its document."""
    query = select(Chunk, Document).join(Document).where(Chunk.public_id == chunk_id)
    if assistant_ids is not None:
        query = query.where(Chunk.assistant_id.in_(assistant_ids))
    row = session.execute(query).one_or_none()
    return None if row is None else (row[0], row[1])


def _with_counts() -> Select[Document, int]:
    count: ScalarSelect[int] = (
        select(func.count())
        .where(Chunk.document_id == Document.id)
        .correlate(Document)
        .scalar_subquery()
    )
    return select(Document, count)
