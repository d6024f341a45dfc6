"""Libraries and stores opened in a test's own process, and a search through all their files."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from retrieval import jobs, lexical
from retrieval.chunking import Chunk as Passage
from retrieval.embedding import Vectors
from retrieval.index import IndexKind, VectorIndex
from retrieval.jobs import Upload
from retrieval.library import Library
from retrieval.parse_worker import ParseWorker
from retrieval.parsing import ParseLimits
from retrieval.store import AssistantStore, NewDocument
from storage.database import Database
from storage.files import new_private, sync
from storage.home import NodeHome
from storage.node_tables import Assistant, Chunk, Document, ItemState, Job
from storage.settings import NodeSettings

ROOT = Path(__file__).parents[1]
JOB_SECONDS = 240
PARSE_SECONDS = 60


@dataclass
class Node:
    """An open library with what it stands on."""

    home: NodeHome
    database: Database
    library: Library

    def assistant(self, name: str = "default") -> int:
        """The assistant of this name, made if it is not there."""
        with self.database.read() as session:
            found = session.scalar(select(Assistant.id).where(Assistant.name == name))
        return found or self.library.create_assistant(name).id

    def send(
        self,
        assistant_id: int,
        files: dict[str, bytes],
        external_ids: Sequence[str | None] | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> str:
        """Hand files over as the API does; returns the job."""
        job_id = jobs.new_id()
        folder = self.library.upload_folder(job_id)
        uploads = []
        for position, (name, content) in enumerate(files.items()):
            path = folder / str(position)
            with new_private(path) as stream:
                stream.write(content)
            external_id = external_ids[position] if external_ids else None
            digest = hashlib.sha256(content).digest()
            uploads.append(
                Upload(name, path, len(content), external_id, attributes or {}, None, digest)
            )
        sync(folder)
        sync(folder.parent)
        self.library.accept(job_id, assistant_id, uploads)
        return job_id

    def job(self, job_id: str) -> Job:
        with self.database.read() as session:
            every = session.scalars(select(Assistant.id)).all()
            found = jobs.get(session, job_id, every)
        assert found is not None
        return found

    def finish(self, job_id: str) -> Job:
        """The job once it is finished."""
        deadline = time.monotonic() + JOB_SECONDS
        while (job := self.job(job_id)).finished_at is None:
            assert time.monotonic() < deadline, f"{job_id} is not finished: {job.state}"
            time.sleep(0.01)
        return job

    def ingest(self, assistant_id: int, files: dict[str, bytes], **given: Any) -> list[str]:
        """Hand files over and wait; returns their documents, in order."""
        job = self.finish(self.send(assistant_id, files, **given))
        failed = [item.error_message for item in job.items if item.state is ItemState.FAILED]
        assert not failed, failed
        return [item.document_id or "" for item in job.items]

    def documents(self, assistant_id: int) -> set[str]:
        with self.database.read() as session:
            own = select(Document.id).where(Document.assistant_id == assistant_id)
            return set(session.scalars(own))

    def text(self, document_id: str) -> str:
        """The passages of a document, a line each."""
        with self.database.read() as session:
            own = select(Chunk.text).where(Chunk.document_id == document_id)
            return "\n".join(session.scalars(own.order_by(Chunk.position)))


@contextmanager
def open_node(root: Path, embedder: Any, parser: Any = None, **settings: Any) -> Iterator[Node]:
    """Open the node in `root` as `alcove node serve` does, or make it; close it at the end."""
    home = NodeHome(root)
    home.create()
    with home.lock(), closing(Database(home.database)) as database:
        database.migrate()
        tokenizer = root / "tokenizer.json"
        embedder.save_tokenizer(tokenizer)
        chosen = NodeSettings(home=root, **settings)
        limits = replace(ParseLimits.of(chosen), seconds=PARSE_SECONDS)
        worker = parser or ParseWorker(limits, tokenizer, embedder.max_tokens)
        library = Library(chosen, database, embedder, worker)
        try:
            yield Node(home, database, library)
        finally:
            library.close()


@contextmanager
def open_database(path: Path) -> Iterator[Database]:
    with closing(Database(path)) as database:
        database.migrate()
        yield database


def add_assistant(database: Database, name: str) -> int:
    with database.write() as session:
        assistant = Assistant(name=name, embedder="synthetic")
        session.add(assistant)
        session.flush()
        lexical.create(session, assistant.id)
    return assistant.id


def open_store(
    database: Database,
    assistant_id: int,
    folder: Path,
    dimension: int = 8,
    kind: IndexKind = "flat",
) -> AssistantStore:
    return AssistantStore(database, assistant_id, VectorIndex(folder, "synthetic", dimension, kind))


def new_document(
    texts: Sequence[str], external_id: str | None = None, name: str = "name", **given: Any
) -> NewDocument:
    """A document of these passages; the same texts are the same content."""
    content = "\n".join(texts)
    return NewDocument(
        name=name,
        title=given.pop("title", "title"),
        media_type="text/plain",
        content_hash=hashlib.sha256(content.encode()).digest(),
        size=len(content),
        passages=tuple(
            Passage(position, text, given.get("heading", ""), None, 0, len(text), 1)
            for position, text in enumerate(texts)
        ),
        external_id=external_id,
        attributes=given.get("attributes", {}),
    )


def unit_vectors(rng: np.random.Generator, n: int, dimension: int = 8) -> Vectors:
    vectors = rng.normal(size=(n, dimension)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + JOB_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def files_holding(root: Path, needles: Iterable[bytes]) -> set[tuple[str, bytes]]:
    """The (file, needle) pairs for which a file below `root` or its name contains the needle.

    Needles that are ASCII are found in any case.
    """
    needles = {(needle, needle.lower() if needle.isascii() else None) for needle in needles}
    found = set()
    # `os.walk` passes over folders that go while it walks.
    for path in (
        Path(top) / name for top, folders, files in os.walk(root) for name in folders + files
    ):
        name = str(path.relative_to(root))
        try:
            content = os.fsencode(name) + (path.read_bytes() if path.is_file() else b"")
        except FileNotFoundError:  # it went meanwhile
            continue
        folded = content.lower()
        found |= {
            (name, needle)
            for needle, lower in needles
            if needle in content or (lower is not None and lower in folded)
        }
    return found
