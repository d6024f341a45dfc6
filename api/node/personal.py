"""Personal adapters of an assistant: trained, listed, served, reset. They stay on the node."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node.auth import ModelsDep, NodeDep, OwnedAssistant
from api.node.jobs import JobBody, job_body
from personal.service import PersonalError, UnknownVersionError
from retrieval import jobs
from storage.example_tables import PersonalKind, PersonalState

router = APIRouter(
    prefix="/v1/assistants/{assistant}/personal",
    tags=["Personal"],
    responses=responses(400, 401, 403, 404),
)

YEAR_HOURS = 8_760


class TrainingRequest(BaseModel):
    """Without `adapters`: the retriever, and the generator where it can be trained."""

    adapters: list[PersonalKind] | None = Field(default=None, min_length=1, max_length=2)


class VersionBody(RowBody):
    """`before` and `after` are measured on held-back examples, with the shared version alone and
    with both: MRR@10 of a retriever (higher is better), the mean loss of a generator (lower is).
    `shared` is the shared version that it is added to (null: the model as it is)."""

    id: int
    kind: PersonalKind
    state: PersonalState
    created_at: int
    shared: str | None
    examples: int
    before: float | None
    after: float | None


class PersonalBody(BaseModel):
    """`schedule_hours`: how often it is trained by itself if something has changed (null: when
    asked). `jobs` are the trainings under way."""

    schedule_hours: int | None
    jobs: list[str]
    data: list[VersionBody]


class VersionChange(BaseModel):
    state: Literal["served"]


class Schedule(BaseModel):
    hours: int | None = Field(ge=1, le=YEAR_HOURS)


@router.post("", status_code=202, responses=responses(409, 503))
def train(
    node: NodeDep, _models: ModelsDep, assistant: OwnedAssistant, wanted: TrainingRequest
) -> JobBody:
    """Train the personal adapters anew; they are served if they are clearly better than the shared
    ones.

    409 if there is too little to learn from, or training is under way.
    """
    try:
        return job_body(node.personal.train(assistant.id, wanted.adapters))
    except PersonalError as error:
        raise ApiError(409, error.code, str(error)) from error


@router.get("")
def list_versions(node: NodeDep, assistant: OwnedAssistant) -> PersonalBody:
    """The personal versions of an assistant, newest first."""
    with node.database.read() as session:
        found = node.personal.list_versions(session, assistant.id)
        waiting = jobs.open_personal(session, assistant.id)
    return PersonalBody(
        schedule_hours=assistant.personal_hours,
        jobs=[job.id for job in waiting],
        data=[VersionBody.of(version) for version in found],
    )


@router.put("/versions/{version}", responses=responses(409, 503))
def serve(
    node: NodeDep,
    _models: ModelsDep,
    assistant: OwnedAssistant,
    version: Annotated[int, Path(ge=1, le=2**53)],
    _change: VersionChange,
) -> VersionBody:
    """Serve a version that is kept, such as an earlier one."""
    try:
        return VersionBody.of(node.personal.serve(assistant.id, version))
    except UnknownVersionError as error:
        raise ApiError(404, error.code, str(error)) from error
    except PersonalError as error:
        raise ApiError(409, error.code, str(error)) from error


@router.put("/schedule")
def schedule(node: NodeDep, assistant: OwnedAssistant, wanted: Schedule) -> Schedule:
    """Train every so many hours if something has changed; null: only when asked."""
    node.personal.schedule(assistant.id, wanted.hours)
    return wanted


@router.delete("", status_code=204)
def reset(node: NodeDep, assistant: OwnedAssistant) -> Response:
    """Erase all personal versions and give up trainings; the shared ones serve alone."""
    node.personal.reset(assistant.id)
    return Response(status_code=204)
