"""Shared versions: what their trials said, and the owner's choice over it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node.auth import NodeDep, NodeOwner
from federation.adapter_spec import AdapterKind
from federation.participant import overview
from federation.participant.adoption import VersionError, read_known_plan
from storage.membership_tables import KnownPlan, SharedVersion, VersionState

router = APIRouter()

PlanHash = Annotated[str, Path(max_length=64)]


class VersionBody(RowBody):
    """`before` and `after` are of `examples` questions that were held back: of a retriever MRR@10,
    of a generator the mean loss of the answers, which is better the lower. `before` is the better
    of no shared adapter and the one that was served."""

    federation: str
    adapter: AdapterKind
    plan_hash: str
    number: int
    state: VersionState
    pinned: bool
    examples: int
    before: float | None
    after: float | None
    tried_at: int


class VersionList(BaseModel):
    data: list[VersionBody]


class Choice(StrEnum):
    PIN = "pin"
    REFUSE = "refuse"


class VersionChoice(BaseModel):
    choice: Choice


@router.get("/versions")
def list_versions(node: NodeDep, _owner: NodeOwner) -> VersionList:
    """The shared versions that the node has tried."""
    with node.database.read() as session:
        return VersionList(data=[_body(row, known) for row, known in overview.versions(session)])


@router.put("/versions/{plan_hash}/{number}", responses=responses(404, 503))
def choose_version(
    node: NodeDep,
    _owner: NodeOwner,
    plan_hash: PlanHash,
    number: Annotated[int, Path(ge=0, le=2**31)],
    wanted: VersionChoice,
) -> VersionList:
    """Serve a version whatever its trial said, or never."""
    adoption = node.federation.adoption
    if adoption is None:
        raise ApiError(503, "starting", "the node is still loading its models", retry_after=5)
    try:
        if wanted.choice is Choice.PIN:
            adoption.pin(plan_hash, number)
        else:
            adoption.refuse(plan_hash, number)
    except VersionError as error:
        raise ApiError(404, "version_not_found", str(error)) from error
    return list_versions(node, _owner)


def _body(row: SharedVersion, known: KnownPlan) -> VersionBody:
    adapter = read_known_plan(known).adapter.kind
    return VersionBody.of(row, federation=known.federation, adapter=adapter)
