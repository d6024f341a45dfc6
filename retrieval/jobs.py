"""Jobs: what was accepted, durably, and how far it is; the work itself is done elsewhere."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.orm import Session, selectinload

from storage.declarative import now
from storage.example_tables import PersonalKind
from storage.node_tables import ItemState, Job, JobItem, JobKind, JobState

OPEN = (ItemState.PENDING, ItemState.RUNNING)
FINISHED = (ItemState.DONE, ItemState.DUPLICATE, ItemState.FAILED)


@dataclass(frozen=True, slots=True)
class Upload:
    """An accepted file: its durable copy below the uploads folder, or why there is none.

    `content_hash` is the SHA-256 of its bytes, by which an erasure finds it while it waits.
    """

    name: str
    path: Path | None
    size: int
    external_id: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    error: tuple[str, str] | None = None
    content_hash: bytes | None = None


def new_id() -> str:
    """An id that cannot be guessed."""
    return f"job-{secrets.token_hex(8)}"


def create_ingest(session: Session, job_id: str, assistant_id: int, files: Sequence[Upload]) -> Job:
    """Record accepted files; those with an error have failed already."""
    job = Job(id=job_id, assistant_id=assistant_id, kind=JobKind.INGEST)
    job.items = [
        JobItem(
            position=position,
            name=file.name,
            size=file.size,
            external_id=file.external_id,
            attributes=file.attributes,
            upload=None if file.path is None else file.path.name,
            content_hash=file.content_hash,
            state=ItemState.PENDING if file.error is None else ItemState.FAILED,
            error_code=file.error[0] if file.error else None,
            error_message=file.error[1] if file.error else None,
        )
        for position, file in enumerate(files)
    ]
    session.add(job)
    session.flush()
    finish_if_complete(session, job_id)
    return job


def create_erase(session: Session, assistant_id: int, document_ids: Sequence[str]) -> Job:
    """Record that documents are to be erased."""
    job = Job(id=new_id(), assistant_id=assistant_id, kind=JobKind.ERASE)
    job.items = [
        JobItem(position=position, name="", document_id=document_id)
        for position, document_id in enumerate(document_ids)
    ]
    session.add(job)
    session.flush()
    return job


def create_personal(session: Session, assistant_id: int, kinds: Collection[PersonalKind]) -> Job:
    """Record that personal adapters are to be trained; the job that says so already, if any."""
    for waiting in open_personal(session, assistant_id):
        if {item.name for item in waiting.items if item.state not in FINISHED} >= set(kinds):
            return waiting
    job = Job(
        id=new_id(), assistant_id=assistant_id, kind=JobKind.PERSONAL, result={"versions": []}
    )
    job.items = [
        JobItem(position=position, name=kind.value)
        for position, kind in enumerate(sorted(kinds, reverse=True))
    ]
    session.add(job)
    session.flush()
    return job


def open_personal(session: Session, assistant_id: int) -> Sequence[Job]:
    """The jobs of an assistant's personal adapters that are not finished."""
    own = select(Job).where(
        Job.assistant_id == assistant_id,
        Job.kind == JobKind.PERSONAL,
        Job.finished_at.is_(None),
    )
    return session.scalars(own.options(selectinload(Job.items))).all()


def get(session: Session, job_id: str, assistant_ids: Sequence[int]) -> Job | None:
    """A job of one of these assistants, with its items."""
    own = select(Job).where(Job.id == job_id, Job.assistant_id.in_(assistant_ids))
    return session.scalars(own.options(selectinload(Job.items))).one_or_none()


def list_page(
    session: Session, assistant_id: int, *, limit: int, after: str | None, kind: JobKind | None
) -> Sequence[Job]:
    """An assistant's jobs, newest first; `after` is the last id of the page before.

    Raises:
        KeyError: `after` is not a job of this assistant.
    """
    query = select(Job).where(Job.assistant_id == assistant_id)
    if kind is not None:
        query = query.where(Job.kind == kind)
    if after is not None:
        start = get(session, after, [assistant_id])
        if start is None:
            raise KeyError(after)
        query = query.where(tuple_(Job.created_at, Job.id) < tuple_(start.created_at, start.id))
    query = query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)
    return session.scalars(query.options(selectinload(Job.items))).all()


def claim(session: Session, kind: JobKind = JobKind.INGEST, after: int = 0) -> JobItem | None:
    """The next item of jobs of a kind, in the order of acceptance, marked as running.

    Those with ids up to `after` come last: whoever had a turn waits for the others.
    """
    item = session.scalars(
        select(JobItem)
        .join(Job)
        .where(Job.kind == kind, JobItem.state == ItemState.PENDING)
        # Ids ascend in the order of acceptance, times only to the second; and they are the order
        # of the index, where an expression would have all that wait sorted.
        .order_by(*[JobItem.id <= after] if after else (), JobItem.id)
        .options(selectinload(JobItem.job))
        .limit(1)
    ).one_or_none()
    if item is not None:
        item.state = ItemState.RUNNING
        item.job.state = JobState.RUNNING
    return item


def recover(session: Session) -> None:
    """After a stop, clean or not: what was running is pending again."""
    running = JobItem.state == ItemState.RUNNING
    session.execute(update(JobItem).where(running).values(state=ItemState.PENDING, chunks_done=0))


def is_running(session: Session, item_id: int) -> bool:
    """Whether an item that was claimed is still to be done; an erasure may have closed it."""
    item = session.get(JobItem, item_id)
    return item is not None and item.state is ItemState.RUNNING


def fail(
    session: Session, item_id: int, code: str, message: str, document_id: str | None = None
) -> None:
    """Close an item that is open with the reason and the document that it is about, if any."""
    item = session.get(JobItem, item_id)
    if item is not None and item.state not in FINISHED:
        item.state = ItemState.FAILED
        item.document_id = document_id
        item.error_code = code
        item.error_message = message
        session.flush()
        finish_if_complete(session, item.job_id)


def finish_if_complete(session: Session, job_id: str) -> bool:
    """Close the job if none of its items is open; it has failed only if all of them have."""
    counts = dict(
        session.execute(
            select(JobItem.state, func.count())
            .where(JobItem.job_id == job_id)
            .group_by(JobItem.state)
        ).all()
    )
    if any(state not in FINISHED for state in counts):
        return False
    job = session.get_one(Job, job_id)
    job.finished_at = now()
    if job.kind is JobKind.INGEST:
        job.result = {state.value: counts.get(state, 0) for state in FINISHED}
    job.state = JobState.FAILED if set(counts) == {ItemState.FAILED} else JobState.DONE
    return True


def uploads_in_use(session: Session) -> set[tuple[str, str]]:
    """The (folder, file) of every upload that is still to be ingested; folders are named by job."""
    rows = session.execute(select(JobItem.job_id, JobItem.upload).where(JobItem.state.in_(OPEN)))
    return {(job_id, upload) for job_id, upload in rows if upload is not None}


def pending_bytes(session: Session) -> int:
    """Bytes of uploads that wait to be ingested."""
    waiting = JobItem.state.in_(OPEN)
    return session.scalar(select(func.coalesce(func.sum(JobItem.size), 0)).where(waiting)) or 0
