"""Populations: a limit that never grows by itself, and a roster."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.bodies import RowBody
from api.coordinator.auth import Admin, AuthorityDep, CoordinatorDep
from api.coordinator.names import LARGEST_PLAN, NAME, PopulationName
from api.errors import ApiError, responses
from federation.coordinator import accounts, overview, populations
from federation.coordinator.accounts import PopulationAccount
from federation.limits import LimitError, choose_limit
from federation.plan_request import PlanRequest, PlanRequestError, resolve
from federation.roster import fingerprint
from privacy.limits import LARGEST_EPSILON, Unit

router = APIRouter(
    prefix="/v1/admin/populations", tags=["Populations"], responses=responses(400, 401, 403)
)

Epsilon = Annotated[float, Field(gt=0, le=LARGEST_EPSILON, allow_inf_nan=False)]


class NewPopulationRequest(BaseModel):
    """A name and a limit, of which only epsilon can be changed later.

    `order` is the Renyi order at which the limit is kept. Where it is left out, it is the one at
    which `plan`, which is not created, fits most often; without a plan, the best for noise that no
    sampling amplifies.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=NAME)
    unit: Unit
    epsilon: Epsilon
    delta: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
    order: int | None = None
    plan: PlanRequest | None = None


class ChangedPopulationRequest(BaseModel):
    """A lower epsilon is a stricter promise; a higher one is a new promise to everybody."""

    epsilon: Epsilon


class PopulationList(BaseModel):
    data: list[PopulationAccount]


class MemberBody(RowBody):
    name: str
    identity: str
    fingerprint: str


class RosterBody(RowBody):
    """Approved participants, for owners to compare fingerprints."""

    population: str
    version: int
    hash: str
    members: list[MemberBody]


@router.post("", status_code=201, responses=responses(409), max_body_size=LARGEST_PLAN)
def create_population(
    coordinator: CoordinatorDep, authority: AuthorityDep, _admin: Admin, new: NewPopulationRequest
) -> PopulationAccount:
    """Make a population; its ledger begins with the limit."""
    try:
        plan = None if new.plan is None else resolve(new.plan, authority.identity).plan
        limit = choose_limit(new.unit, new.epsilon, new.delta, order=new.order, plan=plan)
    except (PlanRequestError, LimitError) as error:
        raise ApiError(400, "bad_limit", str(error)) from error
    populations.create(authority, new.name, limit)
    with coordinator.database.read() as session:
        return accounts.account(session, authority, new.name)


@router.get("")
def list_populations(
    coordinator: CoordinatorDep, authority: AuthorityDep, _admin: Admin
) -> PopulationList:
    """All populations with their budgets."""
    with coordinator.database.read() as session:
        names = overview.populations(session)
        return PopulationList(data=[accounts.account(session, authority, name) for name in names])


@router.get("/{population}", responses=responses(404))
def get_population(
    coordinator: CoordinatorDep, authority: AuthorityDep, _admin: Admin, population: PopulationName
) -> PopulationAccount:
    """One population with its budget."""
    with coordinator.database.read() as session:
        return accounts.account(session, authority, population)


@router.patch("/{population}", responses=responses(404, 409))
def change_population(
    coordinator: CoordinatorDep,
    authority: AuthorityDep,
    _admin: Admin,
    population: PopulationName,
    change: ChangedPopulationRequest,
) -> PopulationAccount:
    """Raise or lower the epsilon of the limit; the ledger says so for ever."""
    populations.change_epsilon(authority, population, change.epsilon)
    with coordinator.database.read() as session:
        return accounts.account(session, authority, population)


@router.get("/{population}/roster", responses=responses(404))
def get_roster(
    coordinator: CoordinatorDep, authority: AuthorityDep, _admin: Admin, population: PopulationName
) -> RosterBody:
    """The signed roster in force."""
    with coordinator.database.read() as session:
        roster = overview.roster(session, authority, population)
    members = [
        MemberBody.of(member, fingerprint=fingerprint(member.identity)) for member in roster.members
    ]
    return RosterBody.of(roster, population=population, members=members)
