"""Jobs: how far accepted uploads, erasures and trainings are."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node.auth import NodeDep, OwnedAssistant, Owner, visible_assistants
from retrieval import jobs
from storage.node_tables import ItemState, Job, JobItem, JobKind, JobState

router = APIRouter(prefix="/v1", tags=["Documents"], responses=responses(400, 401, 403, 404))


class ItemError(BaseModel):
    code: str
    message: str


class ItemBody(RowBody):
    """A file of an ingest job, a document of an erasure, or an adapter of a personal job, with its
    steps instead of passages. `duplicate`: `document_id` holds the same content already."""

    name: str
    external_id: str | None
    state: ItemState
    passages: int | None
    passages_done: int
    document_id: str | None
    error: ItemError | None


class JobBody(RowBody):
    """`progress` is the share of the work done, 0 to 1. `result` has the counts of an ingest job,
    the `receipt` of an erasure or the `versions` of a personal job, once it is finished. A job
    failed only if all of it did."""

    id: str
    kind: JobKind
    state: JobState
    progress: float
    created_at: int
    finished_at: int | None
    items: list[ItemBody]
    result: dict[str, Any] | None


class JobList(BaseModel):
    """`next_after` is the `after` of the next page; null on the last."""

    data: list[JobBody]
    next_after: str | None


@router.get("/jobs/{job_id}")
def get_job(node: NodeDep, owner: Owner, job_id: Annotated[str, Path(max_length=100)]) -> JobBody:
    """A job of one of the key's assistants."""
    with node.database.read() as session:
        own = [assistant.id for assistant in visible_assistants(session, owner)]
        job = jobs.get(session, job_id, own)
    if job is None:
        raise ApiError(404, "job_not_found", f"there is no job {job_id!r} for this key")
    return job_body(job)


@router.get("/assistants/{assistant}/jobs")
def list_jobs(
    node: NodeDep,
    assistant: OwnedAssistant,
    kind: JobKind | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(max_length=100)] = None,
) -> JobList:
    """A page of an assistant's jobs, newest first."""
    try:
        with node.database.read() as session:
            found = jobs.list_page(session, assistant.id, limit=limit + 1, after=after, kind=kind)
    except KeyError as error:
        raise ApiError(
            400, "unknown_job", f"there is no job {after!r} to go on after", param="after"
        ) from error
    shown = [job_body(job) for job in found[:limit]]
    return JobList(data=shown, next_after=shown[-1].id if len(found) > limit else None)


def job_body(job: Job) -> JobBody:
    """A job with its items."""
    return JobBody.of(job, progress=_progress(job), items=[_item(item) for item in job.items])


def _item(item: JobItem) -> ItemBody:
    error = None
    if item.error_code is not None:
        message = item.error_message or "it was erased with its document"
        error = ItemError(code=item.error_code, message=message)
    return ItemBody.of(item, passages=item.chunks, passages_done=item.chunks_done, error=error)


def _progress(job: Job) -> float:
    if job.finished_at is not None or not job.items:
        return 1.0
    return round(sum(_share(item) for item in job.items) / len(job.items), 4)


def _share(item: JobItem) -> float:
    if item.state in jobs.FINISHED:
        return 1.0
    return item.chunks_done / item.chunks if item.chunks else 0.0
