"""Federations: made from a plan, started, paused, stopped; and their rounds."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from api.bodies import RowBody
from api.coordinator.admin.previews import resolved
from api.coordinator.auth import Admin, AuthorityDep, CoordinatorDep
from api.coordinator.bodies import RoundBody, RoundList, plan_json
from api.coordinator.coordinator import Coordinator
from api.coordinator.names import LARGEST_PLAN, FederationName, Limit, OfPopulation, Reason, Start
from api.errors import responses
from federation.coordinator import federations, overview
from federation.coordinator.authority import Authority
from federation.plan_request import PlanRequest
from storage.coordinator_tables import Federation, FederationState

router = APIRouter(
    prefix="/v1/admin/federations", tags=["Federations"], responses=responses(400, 401, 403)
)
_named = responses(404, 409)


class FederationBody(RowBody):
    """`reason`: why it was paused or stopped. `promoted`: the version that nodes are to try."""

    name: str
    population: str
    state: FederationState
    reason: str | None
    plan_hash: str
    created_at: int
    promoted: int
    rounds: int
    mode: str


class FederationDetail(FederationBody):
    """With the signed plan."""

    plan: dict[str, Any]


class FederationList(BaseModel):
    data: list[FederationBody]


class ReasonRequest(BaseModel):
    """Why; nodes and auditors may read it."""

    reason: Reason = ""


@router.post("", status_code=201, responses=_named, max_body_size=LARGEST_PLAN)
def create_federation(
    coordinator: CoordinatorDep, authority: AuthorityDep, _admin: Admin, request: PlanRequest
) -> FederationDetail:
    """Sign the plan, set its rounds aside in the budget, publish version 0."""
    made = resolved(request, authority.identity)
    federations.create(authority, made.plan, made.blobs.values(), made.initial)
    return _detail(coordinator, authority, made.plan.federation)


@router.get("")
def list_federations(
    coordinator: CoordinatorDep,
    authority: AuthorityDep,
    _admin: Admin,
    population: OfPopulation = None,
) -> FederationList:
    """All federations, by name."""
    with coordinator.database.read() as session:
        found = overview.all_federations(session, population)
        return FederationList(data=[_body(federation, authority) for federation in found])


@router.get("/{federation}", responses=responses(404))
def get_federation(
    coordinator: CoordinatorDep, authority: AuthorityDep, _admin: Admin, federation: FederationName
) -> FederationDetail:
    """One federation with its plan."""
    return _detail(coordinator, authority, federation)


@router.post("/{federation}/start", responses=_named)
def start_federation(
    coordinator: CoordinatorDep, authority: AuthorityDep, _admin: Admin, federation: FederationName
) -> FederationDetail:
    """Run rounds from now on."""
    federations.start(authority, federation)
    return _detail(coordinator, authority, federation)


@router.post("/{federation}/pause", responses=_named)
def pause_federation(
    coordinator: CoordinatorDep,
    authority: AuthorityDep,
    _admin: Admin,
    federation: FederationName,
    why: ReasonRequest,
) -> FederationDetail:
    """Open no more rounds; one that has begun goes on."""
    federations.pause(authority, federation, why.reason)
    return _detail(coordinator, authority, federation)


@router.post("/{federation}/resume", responses=_named)
def resume_federation(
    coordinator: CoordinatorDep, authority: AuthorityDep, _admin: Admin, federation: FederationName
) -> FederationDetail:
    """Go on after a pause."""
    federations.resume(authority, federation)
    return _detail(coordinator, authority, federation)


@router.post("/{federation}/stop", responses=_named)
def stop_federation(
    coordinator: CoordinatorDep,
    authority: AuthorityDep,
    _admin: Admin,
    federation: FederationName,
    why: ReasonRequest,
) -> FederationDetail:
    """End it for ever; rounds that were set aside and not charged are given back."""
    federations.stop(authority, federation, why.reason)
    return _detail(coordinator, authority, federation)


@router.get("/{federation}/rounds", responses=responses(404))
def list_rounds(
    coordinator: CoordinatorDep,
    _admin: Admin,
    federation: FederationName,
    start: Start = 0,
    limit: Limit = 100,
) -> RoundList:
    """Rounds with their stages and reasons, the newest first."""
    with coordinator.database.read() as session:
        found = overview.rounds(session, federation, start=start, limit=limit)
        return RoundList(data=[RoundBody.of(row) for row in found])


def _detail(coordinator: Coordinator, authority: Authority, name: str) -> FederationDetail:
    with coordinator.database.read() as session:
        found = federations.get(session, name)
        plan = plan_json(federations.plan_of(found, authority))
        return FederationDetail(**_body(found, authority).model_dump(), plan=plan)


def _body(federation: Federation, authority: Authority) -> FederationBody:
    privacy = federations.plan_of(federation, authority).privacy
    reason = federation.reason or None
    return FederationBody.of(federation, reason=reason, rounds=privacy.rounds, mode=privacy.mode)
