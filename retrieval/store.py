"""One assistant's documents: rows, lexical index and dense index, changed together."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from retrieval import chunking, lexical
from retrieval.embedding import Vectors
from retrieval.index import VectorIndex
from storage.database import Database
from storage.declarative import now
from storage.node_tables import Chunk, Document

# Rows whose vectors are read at once when an index is rebuilt: some 100 MB of them.
REBUILD_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A parsed document to be stored. `content_hash` is the SHA-256 of the uploaded bytes."""

    name: str
    title: str
    media_type: str
    content_hash: bytes
    size: int
    passages: tuple[chunking.Chunk, ...]
    pages: int | None = None
    external_id: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


class DuplicateContentError(Exception):
    """The content is stored already, under another external id."""

    def __init__(self, document_id: str) -> None:
        super().__init__(f"the same content is stored already as {document_id}")
        self.document_id = document_id


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a document stands now; `fresh` is False where its content was there already."""

    document_id: str
    fresh: bool


class Change:
    """One transaction on an assistant's documents, with what the dense index must follow."""

    def __init__(self, session: Session, assistant_id: int) -> None:
        self.session = session
        self._assistant_id = assistant_id
        self._added: list[Chunk] = []
        self._removed: list[int] = []

    def match(self, content_hash: bytes, external_id: str | None) -> Stored | None:
        """The document that holds this content already; it takes the external id if it has none.

        Raises:
            DuplicateContentError: the external id belongs to another document, or the document
                that holds the content has another one.
        """
        same = self._find(Document.content_hash == content_hash)
        if same is None:
            return None
        if external_id is not None and same.external_id != external_id:
            if same.external_id is not None or self._find(Document.external_id == external_id):
                raise DuplicateContentError(same.id)
            same.external_id = external_id
        return Stored(same.id, fresh=False)

    def put(self, new: NewDocument, vectors: Vectors) -> Stored:
        """Store a document, or replace the one with the same external id by it.

        `vectors` has shape (len(new.passages), dimension). The same content is not stored twice
        (`match`, which see for what is raised).
        """
        matched = self.match(new.content_hash, new.external_id)
        if matched is not None:
            return matched
        old = None
        if new.external_id is not None:
            old = self._find(Document.external_id == new.external_id)
        document = self._replace(old, new) if old is not None else self._insert(new)
        rows = [
            Chunk(
                public_id=f"{document.id}.{document.version}.{position}",
                assistant_id=self._assistant_id,
                document_id=document.id,
                position=position,
                heading=passage.heading,
                page=passage.page,
                text=passage.text,
                vector=vector.astype("<f4").tobytes(),
            )
            for position, (passage, vector) in enumerate(zip(new.passages, vectors, strict=True))
        ]
        self.session.add_all(rows)
        self.session.flush()
        lexical.add(self.session, self._assistant_id, rows)
        self._added += rows
        return Stored(document.id, fresh=True)

    def remove(self, document_id: str) -> int:
        """Delete a document's rows and words; returns how many passages it had."""
        count = self._remove_passages(document_id)
        self.session.execute(
            delete(Document).where(
                Document.id == document_id, Document.assistant_id == self._assistant_id
            )
        )
        return count

    def add_to(self, index: VectorIndex) -> None:
        """Give the dense index what was added; before the commit, so that whoever sees the rows
        finds them too. An id without a row is left out of every result."""
        gone = set(self._removed)
        kept = [chunk for chunk in self._added if chunk.id not in gone]
        if kept:
            index.add(np.array([chunk.id for chunk in kept], np.int64), _vectors(kept))

    def remove_from(self, index: VectorIndex) -> None:
        """Take out of the dense index what was removed; after the commit."""
        index.remove(np.array(self._removed, np.int64))

    def _find(self, condition: Any) -> Document | None:
        own = select(Document).where(Document.assistant_id == self._assistant_id)
        return self.session.scalars(own.where(condition)).one_or_none()

    def _insert(self, new: NewDocument) -> Document:
        document = Document(
            id=f"doc-{secrets.token_hex(8)}", assistant_id=self._assistant_id, version=1
        )
        _describe(document, new)
        self.session.add(document)
        self.session.flush()
        return document

    def _replace(self, document: Document, new: NewDocument) -> Document:
        self._remove_passages(document.id)
        _describe(document, new)
        document.version += 1
        document.updated_at = now()
        self.session.flush()
        return document

    def _remove_passages(self, document_id: str) -> int:
        own = (Chunk.document_id == document_id, Chunk.assistant_id == self._assistant_id)
        ids = list(self.session.scalars(select(Chunk.id).where(*own)))
        lexical.remove(self.session, self._assistant_id, document_id)
        self.session.execute(delete(Chunk).where(*own))
        self._removed += ids
        return len(ids)


class AssistantStore:
    """The rows of one assistant and the dense index that follows them."""

    def __init__(self, database: Database, assistant_id: int, index: VectorIndex) -> None:
        self.assistant_id = assistant_id
        self.index = index
        self._database = database
        self._lock = threading.RLock()
        self._destroyed = False
        self._reconcile()

    def holds(self, content_hash: bytes) -> bool:
        """Whether a document with this content is stored."""
        with self._database.read() as session:
            same = select(Document.id).where(
                Document.assistant_id == self.assistant_id, Document.content_hash == content_hash
            )
            return session.scalar(same) is not None

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """A change that is committed, and followed by the index, when the block ends."""
        with self._lock:
            entered = False
            try:
                with self._database.write() as session:
                    change = Change(session, self.assistant_id)
                    yield change
                    session.flush()
                    entered = True
                    change.add_to(self.index)
                change.remove_from(self.index)
            except BaseException:
                if entered:
                    # Neither more nor less than the rows of the database may be served.
                    self._reconcile()
                raise

    def snapshot(self) -> None:
        """Save the dense index, if it changed."""
        with self._lock:
            if self.index.unsaved_changes and not self._destroyed:
                self.index.snapshot()

    def destroy(self) -> None:
        """Remove the dense index's folder; nothing is saved in it any more."""
        with self._lock:
            self._destroyed = True
            self.index.destroy()

    def forget_snapshots(self) -> int:
        """Remove the dense index's files (VectorIndex.forget_snapshots)."""
        with self._lock:
            return self.index.forget_snapshots()

    def _reconcile(self) -> None:
        """Make the index hold exactly the passages of the database.

        Vectors never change under an id and ids are never used again, so comparing ids is enough.
        """
        with self._database.read() as session:
            own = Chunk.assistant_id == self.assistant_id
            wanted = np.array(session.scalars(select(Chunk.id).where(own)).all(), np.int64)
            held = self.index.ids()
            if self.index.remove(np.setdiff1d(held, wanted)):
                # A database that was restored from a backup may give these ids to other passages.
                self.index.forget_snapshots()
            missing = np.setdiff1d(wanted, held)
            for start in range(0, len(missing), REBUILD_ROWS):
                some = missing[start : start + REBUILD_ROWS]
                between = Chunk.id.between(int(some[0]), int(some[-1]))
                rows = session.execute(select(Chunk.id, Chunk.vector).where(own, between)).all()
                absent = set(some.tolist())
                fresh = [row for row in rows if row.id in absent]
                self.index.add(np.array([row.id for row in fresh], np.int64), _vectors(fresh))


def _describe(document: Document, new: NewDocument) -> None:
    document.external_id = new.external_id
    document.name = new.name
    document.title = new.title
    document.media_type = new.media_type
    document.attributes = new.attributes
    document.content_hash = new.content_hash
    document.size = new.size
    document.pages = new.pages


def _vectors(rows: Sequence[Any]) -> Vectors:
    return np.stack([np.frombuffer(row.vector, "<f4") for row in rows]).astype(np.float32)
