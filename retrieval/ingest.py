"""Accepted files to stored passages: a thread each parses ahead, embeds, and stores."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import structlog
from sqlalchemy import update

from retrieval import jobs
from retrieval.embedding import Embedder, Vectors
from retrieval.parse_worker import ParseWorker, WorkerClosedError
from retrieval.parsing import ParseError
from retrieval.store import (
    AssistantStore,
    Change,
    DuplicateContentError,
    NewDocument,
    Stored,
)
from storage.database import Database, may_pass
from storage.node_tables import ItemState, JobItem

log = structlog.get_logger()

# Passages of several documents that are embedded together, and in one call of the model.
GROUP = 512
BATCH = 32
PARSED_AHEAD = 128
NICENESS = 10
PROGRESS_SECONDS = 1.0
RETRY_SECONDS = 2.0
SETTLING_SECONDS = 0.02

Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class _Parsed:
    item: JobItem
    document: NewDocument


@dataclass(frozen=True, eq=False, slots=True)
class _Embedded:
    """Documents that were embedded together; `vectors` of all their passages in order."""

    group: Sequence[_Parsed]
    vectors: Vectors


class Ingester:
    """Works through the files that jobs hold, oldest first, until closed."""

    def __init__(
        self,
        database: Database,
        stores: Mapping[int, AssistantStore],
        embedder: Embedder,
        parser: ParseWorker,
        uploads: Path,
        on_stored: Callable[[int], None],
    ) -> None:
        self._database = database
        self._stores = stores
        self._embedder = embedder
        self._parser = parser
        self._uploads = uploads
        self._on_stored = on_stored
        self._parsed: queue.Queue[_Parsed | None] = queue.Queue(PARSED_AHEAD)
        # One, so that a group is embedded while the one before it is stored.
        self._embedded: queue.Queue[_Embedded | None] = queue.Queue(1)
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._storing = threading.Thread(target=self._store_all, name="store", daemon=True)
        self._embedding = threading.Thread(target=self._embed_all, name="embed", daemon=True)
        self._threads = [
            threading.Thread(target=self._parse_all, name="parse", daemon=True),
            self._embedding,
            self._storing,
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that a job was added."""
        self._wake.set()

    def close(self) -> None:
        """Stop after the file at hand; what is left goes on at the next start."""
        self._closing.set()
        self._wake.set()
        self._parser.close()
        for thread in self._threads:
            thread.join()

    def _parse_all(self) -> None:
        try:
            while not self._closing.is_set():
                item = self._insist(self._claim)
                if item is None:
                    self._wake.wait()
                    self._wake.clear()
                else:
                    self._insist(partial(self._parse_one, item))
        finally:
            _hand_over(self._parsed, None, self._embedding)

    def _insist(self, work: Callable[[], Done]) -> Done | None:
        """Do `work`, again and again while a full disk, say, prevents it; None at the end."""
        while not self._closing.is_set():
            try:
                return work()
            except Exception as error:
                if not may_pass(error):
                    raise
                log.exception("ingest is held up")
                self._closing.wait(RETRY_SECONDS)
        return None

    def _claim(self) -> JobItem | None:
        with self._database.write() as session:
            return jobs.claim(session)

    def _parse_one(self, item: JobItem) -> None:
        path = self._path(item)
        try:
            digest = _digest(path)
            if digest is None:
                self._fail(item, "lost", "the uploaded file is no longer there: upload it again")
            elif not self._stored_already(item, digest):
                parsed = _Parsed(item, self._parse(item, path, digest))
                _hand_over(self._parsed, parsed, self._embedding)
        except DuplicateContentError as error:
            self._fail(item, "duplicate_content", str(error), error.document_id)
        except ParseError as error:
            self._fail(item, error.code, error.message)
        except WorkerClosedError:
            return  # the node is stopping; the file is parsed at the next start
        except Exception as error:
            if may_pass(error):
                raise
            log.exception("reading failed", item=item.id)
            self._fail(item, "not_read", f"the file could not be read: {error}")

    def _stored_already(self, item: JobItem, digest: bytes) -> bool:
        """Whether nothing is to be done, so that repeating an upload costs next to nothing."""
        store = self._stores.get(item.job.assistant_id)
        if store is None:
            return True  # the assistant was deleted meanwhile, and its jobs with it
        if not store.holds(digest):
            return False
        # Files that were accepted before this one may be about to replace what is stored.
        while self._parsed.unfinished_tasks:
            if self._closing.wait(SETTLING_SECONDS):
                raise WorkerClosedError
        with store.changing() as change:
            if not jobs.is_running(change.session, item.id):
                return True  # it was erased meanwhile, and its file with it
            stored = change.match(digest, item.external_id)
            if stored is not None:
                self._finish(change, item, stored, 0)
        if stored is not None:
            self._clean_up(item)
        return stored is not None

    def _parse(self, item: JobItem, path: Path, digest: bytes) -> NewDocument:
        try:
            parsed = self._parser.parse(path, item.name)
        except RuntimeError as error:
            raise OSError("no process can be started to parse in") from error
        return NewDocument(
            name=item.name,
            title=parsed.title or item.name,
            media_type=parsed.media_type,
            content_hash=digest,
            size=item.size,
            passages=parsed.chunks,
            pages=parsed.pages,
            external_id=item.external_id,
            attributes=item.attributes,
        )

    def _embed_all(self) -> None:
        _yield_to_answers()
        try:
            while (group := self._next_group()) and not self._closing.is_set():
                vectors = self._embed_group(group)
                if vectors is None:
                    self._settle(group)
                else:
                    _hand_over(self._embedded, _Embedded(group, vectors), self._storing)
        finally:
            _hand_over(self._embedded, None, self._storing)

    def _embed_group(self, group: Sequence[_Parsed]) -> Vectors | None:
        """Vectors of all passages of the group in order; None if there will be none."""
        try:
            return self._insist(partial(self._embed, group))
        except Exception as error:
            log.exception("embedding failed", items=[parsed.item.id for parsed in group])
            message = f"embedding failed: {error}"
            for parsed in group:
                self._insist(partial(self._fail, parsed.item, "embedding_failed", message))
            return None

    def _store_all(self) -> None:
        _yield_to_answers()
        while (embedded := self._embedded.get()) is not None:
            start = 0
            for parsed in embedded.group:
                end = start + len(parsed.document.passages)
                self._insist(partial(self._store, parsed, embedded.vectors[start:end]))
                start = end
            self._settle(embedded.group)

    def _settle(self, group: Sequence[_Parsed]) -> None:
        for _ in group:
            self._parsed.task_done()

    def _next_group(self) -> list[_Parsed]:
        """Documents with GROUP passages in all, or as many as are parsed; none at the end."""
        first = self._parsed.get()
        if first is None:
            return []
        group = [first]
        passages = len(first.document.passages)
        while passages < GROUP and not self._parsed.empty():
            following = self._parsed.get()
            if following is None:
                self._parsed.put(None)
                break
            group.append(following)
            passages += len(following.document.passages)
        return group

    def _embed(self, group: Sequence[_Parsed]) -> Vectors | None:
        """Vectors of all passages of the group in order; None if the node is stopping."""
        texts = [passage.embedded_text for parsed in group for passage in parsed.document.passages]
        vectors = np.empty((len(texts), self._embedder.dimension), np.float32)
        # Texts of one length together need no padding, which costs as much as text.
        longest_first = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        reported = time.monotonic()
        for start in range(0, len(texts), BATCH):
            if self._closing.is_set():
                return None
            places = longest_first[start : start + BATCH]
            vectors[places] = self._embedder.passages([texts[place] for place in places])
            if time.monotonic() - reported > PROGRESS_SECONDS:
                reported = time.monotonic()
                self._report(group, (start + len(places)) / len(texts))
        return vectors

    def _report(self, group: Sequence[_Parsed], share: float) -> None:
        counts = [(parsed.item.id, len(parsed.document.passages)) for parsed in group]
        with self._database.write() as session:
            session.execute(
                update(JobItem),
                [
                    {"id": item_id, "chunks": total, "chunks_done": int(share * total)}
                    for item_id, total in counts
                ],
            )

    def _store(self, parsed: _Parsed, vectors: Vectors) -> None:
        item = parsed.item
        store = self._stores.get(item.job.assistant_id)
        if store is None:
            return
        try:
            with store.changing() as change:
                if not jobs.is_running(change.session, item.id):
                    return  # it was erased meanwhile, and its file with it
                stored = change.put(parsed.document, vectors)
                self._finish(change, item, stored, len(parsed.document.passages))
        except DuplicateContentError as error:
            self._fail(item, "duplicate_content", str(error), error.document_id)
        except Exception as error:
            if may_pass(error):
                raise
            log.exception("storing failed", item=item.id)
            self._fail(item, "not_stored", f"the document could not be stored: {error}")
        else:
            self._clean_up(item)
            if stored.fresh:
                self._on_stored(item.job.assistant_id)

    @staticmethod
    def _finish(change: Change, item: JobItem, stored: Stored, passages: int) -> None:
        row = change.session.get_one(JobItem, item.id)
        row.document_id = stored.document_id
        row.state = ItemState.DONE if stored.fresh else ItemState.DUPLICATE
        row.chunks = row.chunks_done = passages
        change.session.flush()
        jobs.finish_if_complete(change.session, item.job_id)

    def _fail(self, item: JobItem, code: str, message: str, document_id: str | None = None) -> None:
        with self._database.write() as session:
            jobs.fail(session, item.id, code, message, document_id)
        self._clean_up(item)

    def _clean_up(self, item: JobItem) -> None:
        self._path(item).unlink(missing_ok=True)
        with suppress(OSError):  # other files of the job are still waiting in it
            self._path(item).parent.rmdir()

    def _path(self, item: JobItem) -> Path:
        return self._uploads / item.job_id / (item.upload or "missing")


def _hand_over(to: queue.Queue[Done | None], what: Done | None, reader: threading.Thread) -> None:
    """Put once there is room; without a reader there never will be."""
    while True:
        try:
            to.put(what, timeout=0.5)
        except queue.Full:
            if not reader.is_alive():
                return
        else:
            return


def _yield_to_answers() -> None:
    """This thread, and those that the model starts from it, come after answers."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _digest(path: Path) -> bytes | None:
    """The SHA-256 of a file; None if there is none."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except FileNotFoundError:
        return None
