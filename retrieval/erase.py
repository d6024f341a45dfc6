"""Erasure that is physical: no receipt before the bytes are out of every file of the node."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import Session, selectinload

from retrieval import conversations, feedback, jobs, lexical, questions
from retrieval.forget import forget
from retrieval.store import AssistantStore, Change
from storage.database import Database, note_deletion, noted_deletions, settle_deletions
from storage.declarative import now
from storage.node_tables import Document, ItemState, Job, JobItem, JobKind, JobState

log = structlog.get_logger()

BEYOND_THE_SOFTWARE = (
    "texts that somebody typed into feedback without naming a passage, and adapters that were"
    " imported",
    "copies outside the node's folder: backups, file-system snapshots, swap and what was "
    "exported or quoted in answers",
    "blocks that the file system or an SSD keeps after they were overwritten or released; "
    "an encrypted disk closes this",
)
ADAPTERS = (
    "A shared adapter that was trained on this document before keeps what it learned, within the "
    "bounds of its differential privacy."
)
RETRY_SECONDS = 1.0

REST = 9.0
"""Between two rewritings of the database, in times that the first took, unless an erasure waits:
whoever deletes small things again and again must not keep all writers waiting."""


class Eraser:
    """Completes erasures, those together that wait together, also after a crash."""

    def __init__(
        self, database: Database, stores: Mapping[int, AssistantStore], uploads: Path
    ) -> None:
        self._database = database
        self._stores = stores
        self._uploads = uploads
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._completed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="erase", daemon=True)
        # Snapshots removed for each open job, and the deletions that the files hold no more.
        self._removed: dict[str, int] = {}
        self._blanked = 0
        self._waiters = 0
        self._rested_at = 0.0

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Say that something was deleted or is to be."""
        self._wake.set()

    def wait(self, job_id: str, seconds: float) -> Job | None:
        """The job, as soon as it is finished or `seconds` have passed; None if it is gone."""
        self._wait(lambda: (job := self._job(job_id)) is None or job.finished_at, seconds)
        return self._job(job_id)

    def wait_for_deletions(self, seconds: float) -> bool:
        """Whether the bytes of all deletions are out of the files within `seconds`."""
        return bool(self._wait(lambda: self._deletions() == 0, seconds))

    def close(self) -> None:
        self._closing.set()
        self._wake.set()
        self._thread.join()

    def _wait(self, condition: Callable[[], Any], seconds: float) -> Any:
        with self._completed:
            self._waiters += 1
            self._wake.set()
            try:
                return self._completed.wait_for(condition, seconds)
            finally:
                self._waiters -= 1

    def _job(self, job_id: str) -> Job | None:
        with self._database.read() as session:
            return session.scalars(
                select(Job).where(Job.id == job_id).options(selectinload(Job.items))
            ).one_or_none()

    def _deletions(self) -> int:
        with self._database.read() as session:
            return noted_deletions(session)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                complete = self._complete_all()
            except Exception:
                log.exception("erasure failed and will be tried again")
                complete = False
            with self._completed:
                self._completed.notify_all()
            self._wake.wait(None if complete else RETRY_SECONDS)
            self._wake.clear()
            self._rest()

    def _rest(self) -> None:
        """Wait until the database may be rewritten again, or somebody waits for it."""
        while not self._closing.is_set() and not self._is_awaited():
            left = self._rested_at - time.monotonic()
            if left <= 0:
                return
            self._wake.wait(left)
            self._wake.clear()

    def _is_awaited(self) -> bool:
        if self._waiters:
            return True
        with self._database.read() as session:
            own = select(Job.id).where(Job.kind == JobKind.ERASE, Job.finished_at.is_(None))
            return session.scalar(own.limit(1)) is not None

    def _complete_all(self) -> bool:
        """Take every step, each of which may be repeated; False if one must be tried again."""
        with self._database.read() as session:
            own = select(Job).where(Job.kind == JobKind.ERASE, Job.finished_at.is_(None))
            open_jobs = session.scalars(own.options(selectinload(Job.items))).all()
        for job in open_jobs:
            if job.id not in self._removed:
                self._removed[job.id] = self._remove(job)
        deletions = self._deletions()
        if not open_jobs and not deletions:
            return True
        if deletions != self._blanked:
            for assistant_id in {job.assistant_id for job in open_jobs}:
                with self._database.write() as session:
                    lexical.rebuild(session, assistant_id)
            began = time.monotonic()
            self._database.compact()
            self._rested_at = time.monotonic() + REST * (time.monotonic() - began)
            self._blanked = deletions
        if not self._database.truncate_log():
            log.warning("erasure waits for readers of the database")
            return False
        with self._database.write() as session:
            for job in open_jobs:
                _close(session, job.id, self._removed[job.id])
            settle_deletions(session, deletions)
        self._removed.clear()
        self._blanked = 0
        return True

    def _remove(self, job: Job) -> int:
        """Delete the job's documents; returns how many snapshots of the index went with them."""
        store = self._stores[job.assistant_id]
        for item in job.items:
            with store.changing() as change:
                uploads = _delete(change, item.id)
            for upload in uploads:
                (self._uploads / upload).unlink(missing_ok=True)
                with suppress(OSError):  # other files of its job may be waiting
                    (self._uploads / upload).parent.rmdir()
        return store.forget_snapshots()


def _delete(change: Change, item_id: int) -> list[str]:
    """Delete a document and what its uploads recorded; returns files that may be left of them.

    Uploads of it that were accepted before the erasure and are still waiting are closed.
    """
    item = change.session.get_one(JobItem, item_id)
    document = change.session.get(Document, item.document_id)
    about = JobItem.document_id == item.document_id
    closed: set[str] = set()
    if document is not None:
        meant = _meant_for(document, item_id)
        waiting = update(JobItem).where(meant, JobItem.state.in_(jobs.OPEN))
        erased = {"state": ItemState.FAILED, "error_code": "erased"}
        closed.update(change.session.scalars(waiting.values(**erased).returning(JobItem.job_id)))
        about = or_(about, meant)
    uploads = change.session.execute(
        select(JobItem.job_id, JobItem.upload).where(about, JobItem.upload.is_not(None))
    ).all()
    if item.document_id is not None:
        # A version may have learned of feedback to an answer that only read the document.
        forgotten = [
            *forget(change.session, documents=[item.document_id]),
            *feedback.erase_about(change.session, item.document_id),
            *questions.erase_about(change.session, item.document_id),
        ]
        if forgotten:
            told = (item.job.result or {}).get("personal", [])
            item.job.result = {"personal": [*told, *forgotten]}
        conversations.erase_about(change.session, item.document_id)
    item.chunks = change.remove(document.id) if document is not None else item.chunks or 0
    item.state = ItemState.DONE
    # Names and attributes of the upload are the document's too.
    change.session.execute(
        update(JobItem)
        .where(about)
        .values(
            name="", external_id=None, attributes={}, size=0, upload=None, content_hash=None,
            error_message=None,
        )
    )  # fmt: skip
    for job_id in closed:
        jobs.finish_if_complete(change.session, job_id)
    note_deletion(change.session)
    return [f"{job_id}/{upload}" for job_id, upload in uploads]


def _meant_for(document: Document, before: int) -> ColumnElement[bool]:
    """Uploads accepted before that item that belong to no document, but were meant to be a version
    of this one or have its content."""
    own = select(Job.id).where(
        Job.assistant_id == document.assistant_id, Job.kind == JobKind.INGEST
    )
    same = JobItem.content_hash == document.content_hash
    if document.external_id is not None:
        same = or_(same, JobItem.external_id == document.external_id)
    return and_(
        JobItem.state.in_((*jobs.OPEN, ItemState.FAILED)),
        JobItem.id < before,
        same,
        JobItem.job_id.in_(own),
    )


def _close(session: Session, job_id: str, generations: int) -> None:
    job = session.scalars(
        select(Job).where(Job.id == job_id).options(selectinload(Job.items))
    ).one_or_none()
    if job is not None:  # its assistant may have been deleted meanwhile
        job.finished_at = now()
        job.state = JobState.DONE
        personal = (job.result or {}).get("personal", [])
        job.result = {"receipt": receipt(job, generations, personal)}


def receipt(job: Job, generations: int, personal: list[dict[str, Any]]) -> dict[str, Any]:
    """What was removed and what lies beyond it; it names documents by id only.

    `personal`: what `forget` returned.
    """
    return {
        "id": job.id.replace("job-", "receipt-"),
        "requested_at": job.created_at,
        "completed_at": job.finished_at,
        "documents": [
            {"id": item.document_id, "passages": item.chunks, "vectors": item.chunks}
            for item in job.items
        ],
        "removed_from": [
            "database rows, free pages and write-ahead log",
            "labelled questions about it",
            "feedback to answers from it, and conversations with such answers",
            "lexical index",
            "dense index in memory",
            f"snapshots of the dense index ({generations} removed)",
            "records of its upload",
            "personal adapters that learned from it",
        ],
        "personal": personal,
        "not_covered": list(BEYOND_THE_SOFTWARE),
        "adapters": ADAPTERS,
    }
