"""A node's work and its inspection, each in a process of its own; the first is killed.

What was tried and what was acknowledged stands in a journal outside the node's folder, written
through to disk before the next step. The embedder and the parser here are stand-ins of the same
interface (vectors from a hash, text as it comes): with the real ones each of hundreds of starts
would load a model. Everything else is the node's own code.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from sqlalchemy import func, select

import retrieval.library as library_module
from retrieval import index, jobs
from retrieval.chunking import Chunk as Passage
from retrieval.embedding import Vectors
from retrieval.jobs import Upload
from retrieval.library import Library
from retrieval.parse_worker import ChunkedDocument
from storage.database import Database
from storage.home import NodeHome
from storage.node_tables import Assistant, Chunk, Document, Job
from storage.settings import NodeSettings

DIMENSION = 16
EXTERNAL_IDS = [f"paper-{number}" for number in range(12)]
SNAPSHOT_EVERY = 5
RECOVERY_SECONDS = 60.0
HOUSEKEEPING_SECONDS = 0.02
SNAPSHOT_STEPS = 7


class Embedder:
    """Unit vectors that a text determines."""

    identity = "stand-in"
    dimension = DIMENSION
    max_tokens = 256

    def passages(self, texts: list[str]) -> Vectors:
        rows = [
            np.frombuffer(hashlib.shake_128(t.encode()).digest(4 * DIMENSION), "<u4") for t in texts
        ]
        raw = np.array(rows, np.float32).reshape(len(texts), DIMENSION) - np.float32(2**31)
        lengths = np.linalg.norm(raw, axis=1, keepdims=True)
        return (raw / lengths).astype(np.float32)

    questions = passages


class Parser:
    """A file's lines are its passages."""

    def parse(self, path: Path, _name: str) -> ChunkedDocument:
        lines = path.read_text().splitlines()
        passages = tuple(
            Passage(place, line, "", None, 0, len(line), 10) for place, line in enumerate(lines)
        )
        return ChunkedDocument("text/plain", None, None, 0, passages)

    def close(self) -> None:
        pass


def work(home: str, journal: str, seed: int, step: int | None = None) -> None:
    """Ingest, replace and erase at random until killed; by itself at this step of a snapshot."""
    if step is not None:
        _die_within_a_snapshot(step)
    chosen = random.Random(seed)
    with opened(Path(home)) as (database, library), Path(journal).open("a") as log:
        assistant = library.create_assistant("default") if not _assistants(database) else None
        assistant_id = assistant.id if assistant else _assistants(database)[0]

        def note(**what: Any) -> None:
            log.write(json.dumps(what) + "\n")
            log.flush()
            os.fsync(log.fileno())

        while True:
            one = chosen.choice(EXTERNAL_IDS)
            if chosen.random() < 0.6:
                word = hashlib.sha256(f"{seed}{chosen.random()}".encode()).hexdigest()[:20]
                note(step="put", id=one, word=word)
                job_id = _put(library, assistant_id, one, word, chosen.randint(1, 4))
                note(step="accepted", id=one, word=word)
                if chosen.random() < 0.5:
                    _finish(database, job_id)
            else:
                _finish_all(database)
                with database.read() as session:
                    held = session.execute(
                        select(Document.id, Document.name).where(Document.external_id == one)
                    ).one_or_none()
                if held is not None:
                    note(step="erase", id=one, word=held.name)
                    job = library.erase(assistant_id, [held.id], RECOVERY_SECONDS)
                    if job.finished_at is not None:
                        note(step="erased", id=one, word=held.name)


def inspect(home: str, journal: str, verdict: str) -> None:
    """Open what a kill left, wait until the open jobs are done, and compare with the journal."""
    root = Path(home)
    # No snapshot tidies up before the look at what opening has left.
    with opened(root, housekeeping=RECOVERY_SECONDS) as (database, library):
        problems = [f"orphaned generations: {paths}" for paths in [orphans(root)] if paths]
        _finish_all(database)
        allowed, erased = _expected(Path(journal))
        for assistant_id in _assistants(database):
            problems += _compare(database, library, assistant_id, allowed)
    problems += [
        f"{word} was erased and stands in {path.name}"
        for path in root.rglob("*")
        if path.is_file()
        for content in [path.read_bytes()]
        for word in erased
        if word.encode() in content
    ]
    problems += [f"left over: {path}" for path in (root / "uploads").iterdir()]
    problems += [f"left over: {path}" for path in root.rglob("*.tmp")]
    Path(verdict).write_text("\n".join(problems))


def orphans(root: Path) -> list[Path]:
    """Snapshots, whole or not, that are not the current one of their index."""
    found = []
    for folder in (root / "indexes").iterdir():
        current = folder / "CURRENT"
        name = current.read_text() if current.exists() else None
        found += [path for path in folder.glob("gen-*") if path.name != name]
    return found


def _die_within_a_snapshot(step: int) -> None:
    """Have this process killed just before the so-manyeth call by which a snapshot changes a file.

    They are: the index is written (0) and synced, the manifest written, the folder synced (3), its
    new name synced (4), CURRENT replaced (5), the generation before removed.
    """
    left: dict[int, int] = {}  # steps, by the thread that is within a snapshot

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            thread = threading.get_ident()
            if thread in left:
                if left[thread] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[thread] -= 1
            return change(*given)

        return call

    for module, name in [
        (faiss, "write_index"), (index, "sync"), (index, "write_private"), (index, "remove"),
    ]:  # fmt: skip
        setattr(module, name, counted(getattr(module, name)))
    snapshot = index.VectorIndex.snapshot

    def watched(own: index.VectorIndex) -> None:
        left[threading.get_ident()] = step
        snapshot(own)
        del left[threading.get_ident()]

    index.VectorIndex.snapshot = watched  # type: ignore[method-assign]


@contextmanager
def opened(
    root: Path, housekeeping: float = HOUSEKEEPING_SECONDS
) -> Iterator[tuple[Database, Library]]:
    library_module.HOUSEKEEPING_SECONDS = housekeeping
    home = NodeHome(root)
    home.create()
    with home.lock():
        database = Database(home.database)
        database.migrate()
        settings = NodeSettings(home=root, snapshot_every=SNAPSHOT_EVERY, snapshot_seconds=0.2)
        library = Library(settings, database, Embedder(), Parser())  # type: ignore[arg-type]
        try:
            yield database, library
        finally:
            library.close()
            database.close()


def _assistants(database: Database) -> list[int]:
    with database.read() as session:
        return list(session.scalars(select(Assistant.id)))


def _put(library: Library, assistant_id: int, one: str, word: str, lines: int) -> str:
    job_id = jobs.new_id()
    path = library.upload_folder(job_id) / "0"
    text = "\n".join(f"{word} line {number} of {one}" for number in range(lines))
    with path.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    library.accept(job_id, assistant_id, [Upload(word, path, len(text), one)])
    return job_id


def _finish(database: Database, job_id: str) -> None:
    while True:
        with database.read() as session:
            if session.get_one(Job, job_id).finished_at is not None:
                return
        time.sleep(0.005)


def _finish_all(database: Database) -> None:
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        with database.read() as session:
            waiting = select(func.count()).select_from(Job).where(Job.finished_at.is_(None))
            if session.scalar(waiting) == 0:
                return
        if time.monotonic() > deadline:
            raise TimeoutError("open jobs do not finish")
        time.sleep(0.01)


def _expected(journal: Path) -> tuple[dict[str, set[str | None]], set[str]]:
    """What each external id may hold (None: nothing), and words that must be nowhere."""
    allowed: dict[str, set[str | None]] = {one: {None} for one in EXTERNAL_IDS}
    erased: set[str] = set()
    for line in journal.read_text().splitlines():
        row = json.loads(line)
        one, word = row["id"], row["word"]
        match row["step"]:
            case "put":
                allowed[one] = allowed[one] | {word}
            case "accepted":
                allowed[one] = {word}
            case "erase":
                allowed[one] = allowed[one] | {None}
            case "erased":
                allowed[one] = {None}
                erased.add(word)
    return allowed, erased


def _compare(
    database: Database, library: Library, assistant_id: int, allowed: dict[str, set[str | None]]
) -> list[str]:
    problems = []
    with database.read() as session:
        rows = session.execute(select(Document.external_id, Document.name, Document.id)).all()
        chunks = session.execute(select(Chunk.id, Chunk.document_id, Chunk.vector)).all()
    held: dict[str, str] = {row.external_id: row.name for row in rows}
    for one, words in allowed.items():
        if held.get(one) not in words:
            problems.append(f"{one} holds {held.get(one)}, and may hold {words}")
    store = library._stores[assistant_id]
    # A job is over with its commit; what it has replaced leaves the index just after that.
    with store._lock:
        indexed = set(store.index.ids().tolist())
    stored = {chunk.id for chunk in chunks}
    if indexed != stored:
        problems.append(
            f"of passages the dense index lacks {stored - indexed}, and has {indexed - stored} "
            "that the database has not"
        )
    for row in rows:
        hits = library.searcher.search(assistant_id, row.name, k=3, mode="lexical")
        if not hits or {hit.document_id for hit in hits} != {row.id}:
            problems.append(f"{row.name} is not found by its word")
    if chunks:
        question = Embedder().passages(["where"])[0]
        vectors = np.array([np.frombuffer(chunk.vector, "<f4") for chunk in chunks])
        best = float((vectors @ question).max())
        hit = library.searcher.search(assistant_id, "where", k=1, mode="dense")[0]
        if abs(hit.score - best) > 1e-5:
            problems.append(f"dense search found {hit.score}, the best is {best}")
    return problems
