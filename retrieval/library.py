"""A node's assistants and their documents: what is accepted, found and erased."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from retrieval import conversations, documents, fusion_weight, jobs, lexical
from retrieval.embedding import Embedder, Vectors
from retrieval.erase import Eraser
from retrieval.index import VectorIndex
from retrieval.ingest import Ingester
from retrieval.jobs import Upload
from retrieval.parse_worker import ParseWorker
from retrieval.search import Reranker, Searcher
from retrieval.store import AssistantStore
from storage.database import Database, note_deletion
from storage.files import remove
from storage.home import NodeHome
from storage.node_tables import Assistant, Chunk, Document, Job, JobState
from storage.settings import NodeSettings

log = structlog.get_logger()

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
DEFAULT_ASSISTANT = "default"
HOUSEKEEPING_SECONDS = 1.0
PURGE_SECONDS = 3_600.0
DELETION_SECONDS = 10.0


class LibraryError(Exception):
    """What was asked for cannot be done; the message says why."""


class UnknownAssistantError(LibraryError):
    """There is no such assistant."""


class AssistantExistsError(LibraryError):
    """The name is taken."""


class BadNameError(LibraryError, ValueError):
    """The name is not one that an assistant may have."""


class EmbedderChangedError(LibraryError):
    """An assistant's vectors come from another embedder than the one that is set."""


class Library:
    """The documents of a node. One per process; its methods are safe in any thread."""

    def __init__(
        self,
        settings: NodeSettings,
        database: Database,
        embedder: Embedder,
        parser: ParseWorker,
        reranker: Reranker | None = None,
    ) -> None:
        """Open every assistant's index and go on with the jobs that a stop interrupted.

        Raises:
            EmbedderChangedError: the settings name another embedder than the vectors come from.
        """
        self._settings = settings
        self._home = NodeHome(settings.home)
        self._database = database
        self._embedder = embedder
        self._stores: dict[int, AssistantStore] = {}
        self._stale: set[int] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        with database.write() as session:
            jobs.recover(session)
            assistants = session.scalars(select(Assistant)).all()
            self._remove_orphans(session, assistants)
        for assistant in assistants:
            self._stores[assistant.id] = self._open(assistant)
            if assistant.weight_source is None:
                self._stale.add(assistant.id)
        self.searcher = Searcher(database, self._stores, embedder, reranker)
        self._eraser = Eraser(database, self._stores, self._home.uploads)
        # Rows are deleted in many places; their bytes are blanked by one.
        database.on_deletion(self._eraser.wake)
        self._ingester = Ingester(
            database, self._stores, embedder, parser, self._home.uploads, self._stored
        )
        self._housekeeper = threading.Thread(target=self._keep_house, name="house", daemon=True)
        self._eraser.start()
        self._ingester.start()
        self._housekeeper.start()

    def close(self) -> None:
        """Stop the work at a safe point and save the indexes."""
        self._closing.set()
        self._ingester.close()
        self._eraser.close()
        self._housekeeper.join()
        self.searcher.close()
        for store in self._stores.values():
            store.snapshot()

    def create_assistant(self, name: str, description: str = "") -> Assistant:
        """Raises BadNameError or AssistantExistsError."""
        if not NAME.fullmatch(name):
            raise BadNameError(
                f"{name!r} is no name for an assistant: 1 to 63 of a-z, 0-9, '.', '_' and '-', "
                "the first a letter or a digit"
            )
        with self._lock, self._database.write() as session:
            if session.scalar(select(Assistant.id).where(Assistant.name == name)) is not None:
                raise AssistantExistsError(f"there is an assistant called {name} already")
            assistant = Assistant(
                name=name, description=description, embedder=self._embedder.identity
            )
            session.add(assistant)
            session.flush()
            lexical.create(session, assistant.id)
            self._stores[assistant.id] = self._open(assistant)
        return assistant

    def delete_assistant(self, assistant_id: int) -> None:
        """Remove an assistant with all that it holds, physically, as erasure does.

        Raises:
            UnknownAssistantError: there is none, or it is being deleted.
            LibraryError: readers of the database keep its text in the log for a while.
        """
        with self._lock:
            store = self._stores.pop(assistant_id, None)
        if store is None:
            raise UnknownAssistantError("there is no such assistant")
        try:
            with self._database.write() as session:
                own = select(Job.id).where(Job.assistant_id == assistant_id)
                job_ids = session.scalars(own).all()
                lexical.drop(session, assistant_id)
                session.execute(delete(Assistant).where(Assistant.id == assistant_id))
                note_deletion(session)
            store.destroy()
            for job_id in job_ids:
                remove(self._home.uploads / job_id)
        finally:
            self._eraser.wake()
        if not self._eraser.wait_for_deletions(DELETION_SECONDS):
            raise LibraryError(
                "the assistant is deleted, but readers of the database keep its text in the log; "
                "it goes as soon as they end"
            )

    def accept(self, job_id: str, assistant_id: int, files: Sequence[Upload]) -> None:
        """Take over uploads whose bytes are durable below `upload_folder(job_id)`.

        Raises:
            UnknownAssistantError: there is no such assistant; the files are removed.
        """
        with self._database.write() as session:
            known = session.get(Assistant, assistant_id) is not None
            if known:
                jobs.create_ingest(session, job_id, assistant_id, files)
        if not known:
            remove(self._home.uploads / job_id)
            raise UnknownAssistantError("there is no such assistant")
        self._ingester.wake()

    def upload_folder(self, job_id: str) -> Path:
        """The folder, made on demand, for the files of a job that is to be accepted."""
        folder = self._home.uploads / job_id
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def erase(self, assistant_id: int, document_ids: Sequence[str], seconds: float) -> Job:
        """Erase documents; the job is finished, with its receipt, unless `seconds` were too few.

        Raises:
            KeyError: a document is not one of this assistant's.
        """
        with self._database.write() as session:
            own = select(Document.id).where(
                Document.assistant_id == assistant_id, Document.id.in_(document_ids)
            )
            missing = set(document_ids) - set(session.scalars(own))
            if missing:
                raise KeyError(min(missing))
            job = jobs.create_erase(session, assistant_id, document_ids)
        self._eraser.wake()
        done = self._eraser.wait(job.id, seconds)
        if done is None:  # the assistant was deleted meanwhile
            raise KeyError(min(document_ids))
        self._stored(assistant_id)
        return done

    def count(self, assistant_id: int) -> tuple[int, int]:
        """Documents and passages of an assistant; none of one that is not there."""
        with self._database.read() as session:
            return documents.count(session, assistant_id)

    def learn_weight(self, assistant_id: int, questions: Sequence[fusion_weight.Question]) -> float:
        """Fit the mixture of dense and lexical scores on labelled questions.

        Raises:
            KeyError: there is no such assistant.
        """
        return fusion_weight.learn_from_labels(
            self._database, self.searcher, assistant_id, questions
        )

    def nearest(self, assistant_id: int, vectors: Vectors, k: int) -> list[list[str]]:
        """The documents of each vector's `k` nearest passages, best first, by dense search alone.

        `vectors` has shape (n, dimension). A document is named once for each of its passages.
        """
        found = self._stores[assistant_id].index.search(vectors, k, None)
        ids = {chunk_id for hits in found for chunk_id, _ in hits}
        with self._database.read() as session:
            own = select(Chunk.id, Chunk.document_id).where(
                Chunk.assistant_id == assistant_id, Chunk.id.in_(ids)
            )
            held: dict[int, str] = dict(session.execute(own).all())
        return [[held[i] for i, _ in hits if i in held] for hits in found]

    def purge_conversations(self) -> None:
        """Erase conversations that are older than their owner wants them kept."""
        with self._database.read() as session:
            due = bool(conversations.expired(session))
        if due:
            with self._database.write() as session:
                conversations.purge(session)
            self._eraser.wake()

    def _open(self, assistant: Assistant) -> AssistantStore:
        if assistant.embedder != self._embedder.identity:
            raise EmbedderChangedError(
                f"the vectors of {assistant.name} come from {assistant.embedder}, the settings "
                f"name {self._embedder.identity}: set the old embedder again, or make a new "
                "assistant and ingest its documents anew"
            )
        index = VectorIndex(
            self._home.indexes / str(assistant.id),
            self._embedder.identity,
            self._embedder.dimension,
            self._settings.index,
        )
        return AssistantStore(self._database, assistant.id, index)

    def _stored(self, assistant_id: int) -> None:
        """Fit the assistant's weight anew to the documents that it has."""
        with self._lock:
            self._stale.add(assistant_id)

    def _keep_house(self) -> None:
        """Between jobs: save indexes that changed, fit weights, purge conversations."""
        waited = 0.0
        purge_at = time.monotonic()
        while not self._closing.wait(HOUSEKEEPING_SECONDS):
            waited += HOUSEKEEPING_SECONDS
            try:
                due = waited >= self._settings.snapshot_seconds
                for store in list(self._stores.values()):
                    if due or store.index.unsaved_changes >= self._settings.snapshot_every:
                        store.snapshot()
                waited = 0.0 if due else waited
                self._fit_weights()
                if time.monotonic() >= purge_at:
                    self.purge_conversations()
                    purge_at = time.monotonic() + PURGE_SECONDS
            except Exception:
                log.exception("housekeeping failed and will be tried again")

    def _fit_weights(self) -> None:
        with self._database.read() as session:
            busy = set(
                session.scalars(
                    select(Job.assistant_id).where(
                        Job.state.in_((JobState.QUEUED, JobState.RUNNING))
                    )
                )
            )
        with self._lock:
            ready = self._stale - busy
            self._stale -= ready
        for assistant_id in ready:
            if assistant_id in self._stores:
                try:
                    fusion_weight.learn_from_titles(self._database, self.searcher, assistant_id)
                except Exception:
                    if assistant_id not in self._stores:
                        log.info("no weight is fitted for a deleted assistant", exc_info=True)
                        continue
                    self._stored(assistant_id)
                    raise

    def _remove_orphans(self, session: Session, assistants: Sequence[Assistant]) -> None:
        """Remove what a stop left behind: uploads no job waits for, indexes of no assistant."""
        needed = jobs.uploads_in_use(session)
        folders = {job_id for job_id, _ in needed}
        for folder in self._home.uploads.iterdir():
            if folder.name not in folders:
                remove(folder)
            else:
                for file in folder.iterdir():
                    if (folder.name, file.name) not in needed:
                        remove(file)
        known = {str(assistant.id) for assistant in assistants}
        for path in self._home.indexes.iterdir():
            if path.name not in known:
                remove(path)
