"""Erasure that is physical: no receipt before the bytes are out of every file of the node."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session, selectinload

from retrieval import jobs
from retrieval.store import AssistantStore
from storage.database import Database
from storage.node_tables import ItemState, Job, JobItem, JobKind, JobState, now

log = structlog.get_logger()

BEYOND_THE_SOFTWARE = (
    "copies outside the node's folder: backups, file-system snapshots, swap and what was "
    "exported or quoted in answers",
    "blocks that the file system or an SSD keeps after they were overwritten or released; "
    "an encrypted disk closes this",
)
ADAPTERS = (
    "An adapter that was trained on this document before keeps what it learned until it is "
    "retrained; a shared adapter keeps it within the bounds of its differential privacy."
)
RETRY_SECONDS = 1.0


class Eraser:
    """Completes erasures, one after another, also those that a crash interrupted."""

    def __init__(self, database: Database, stores: Mapping[int, AssistantStore]) -> None:
        self._database = database
        self._stores = stores
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._completed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="erase", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def erase(self, session: Session, assistant_id: int, document_ids: list[str]) -> Job:
        """Record an erasure in the caller's transaction; call `wake` after its commit."""
        return jobs.create_erase(session, assistant_id, document_ids)

    def wake(self) -> None:
        self._wake.set()

    def wait(self, job_id: str, seconds: float) -> Job:
        """The job, as soon as it is finished or `seconds` have passed."""
        with self._completed:
            self._completed.wait_for(lambda: self._job(job_id).finished_at is not None, seconds)
        return self._job(job_id)

    def close(self) -> None:
        self._closing.set()
        self._wake.set()
        self._thread.join()

    def _job(self, job_id: str) -> Job:
        with self._database.read() as session:
            return session.scalars(
                select(Job).where(Job.id == job_id).options(selectinload(Job.items))
            ).one()

    def _run(self) -> None:
        while not self._closing.is_set():
            with self._database.read() as session:
                own = select(Job).where(Job.kind == JobKind.ERASE, Job.finished_at.is_(None))
                open_jobs = session.scalars(
                    own.order_by(Job.created_at).options(selectinload(Job.items))
                ).all()
            unfinished = [job.id for job in open_jobs if not self._complete(job)]
            self._wake.wait(RETRY_SECONDS if unfinished else None)
            self._wake.clear()

    def _complete(self, job: Job) -> bool:
        """Take every step, each of which may be repeated; False if one must be tried again."""
        try:
            store = self._stores[job.assistant_id]
            for item in job.items:
                if item.state is not ItemState.DONE:
                    _delete(store, item.id)
            generations = store.forget_snapshots()
            if not self._database.truncate_log():
                log.warning("erasure waits for readers of the database", job=job.id)
                return False
            with self._database.write() as session:
                _close(session, job.id, generations)
        except Exception:
            log.exception("erasure failed and will be tried again", job=job.id)
            return False
        with self._completed:
            self._completed.notify_all()
        return True


def _delete(store: AssistantStore, item_id: int) -> None:
    with store.changing() as change:
        item = change.session.get_one(JobItem, item_id)
        document_id = item.document_id or ""
        item.chunks = change.remove(document_id)
        item.state = ItemState.DONE
        # Names and attributes of the upload are the document's too.
        change.session.execute(
            update(JobItem)
            .where(JobItem.document_id == document_id)
            .values(name="", external_id=None, attributes={}, size=0, error_message=None)
        )


def _close(session: Session, job_id: str, generations: int) -> None:
    job = session.scalars(
        select(Job).where(Job.id == job_id).options(selectinload(Job.items))
    ).one()
    job.finished_at = now()
    job.state = JobState.DONE
    job.result = {"receipt": receipt(job, generations)}


def receipt(job: Job, generations: int) -> dict[str, Any]:
    """What was removed and what lies beyond it; it names documents by id only."""
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
            "lexical index",
            "dense index in memory",
            f"snapshots of the dense index ({generations} removed)",
            "records of its upload",
        ],
        "not_covered": list(BEYOND_THE_SOFTWARE),
        "adapters": ADAPTERS,
    }
