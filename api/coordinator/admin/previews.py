"""What a plan would mean; nothing is stored."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from api.bodies import RowBody
from api.coordinator.auth import Admin, AuthorityDep, CoordinatorDep
from api.coordinator.bodies import plan_json
from api.coordinator.names import LARGEST_PLAN
from api.errors import ApiError, responses
from federation.coordinator import overview, populations
from federation.plan_request import PlanRequest, PlanRequestError, ResolvedPlan, resolve
from federation.preview import BudgetFit, Preview, preview
from federation.statement import Guarantee, finite
from privacy.guarantee import Epsilon, Epsilons

router = APIRouter(
    prefix="/v1/admin/federations", tags=["Federations"], responses=responses(400, 401, 403)
)


class GuaranteesBody(BaseModel):
    """A number that has no bound is null."""

    coordinator: Guarantee
    release: Guarantee
    alone: Guarantee


class BudgetFitBody(BaseModel):
    """At the population's order and delta; `refusal` says why the plan does not fit."""

    epsilon_limit: float
    delta: float
    order: int
    mode: str
    unit: str
    adjacency: str
    trust: str
    epsilon_committed: float | None
    epsilon_after: float | None
    refusal: str | None


class PreviewBody(RowBody):
    """`budget` is null where there is no such population yet; bytes are of one node in a round."""

    plan_hash: str
    plan: dict[str, Any]
    parameters: int
    per_round: GuaranteesBody
    total: GuaranteesBody
    noise_to_signal: float
    bytes_up: int
    bytes_down: int
    seconds_expected: float
    seconds_longest: float
    seconds_all_rounds: float
    budget: BudgetFitBody | None
    refusal: str | None
    warnings: list[str]


@router.post("/preview", max_body_size=LARGEST_PLAN)
def preview_federation(
    coordinator: CoordinatorDep, authority: AuthorityDep, _admin: Admin, request: PlanRequest
) -> PreviewBody:
    """Epsilons, noise, bytes, time, and whether the population's limit has room."""
    plan = resolved(request, authority.identity).plan
    with coordinator.database.read() as session:
        known = plan.population in overview.populations(session)
        budget = populations.budget(session, plan.population) if known else None
    return preview_body(preview(plan, budget))


def resolved(request: PlanRequest, coordinator: str) -> ResolvedPlan:
    """The plan of a request.

    Raises:
        ApiError: 400 bad_plan.
    """
    try:
        return resolve(request, coordinator)
    except PlanRequestError as error:
        raise ApiError(400, "bad_plan", str(error)) from error


def preview_body(found: Preview) -> PreviewBody:
    return PreviewBody.of(
        found,
        plan_hash=found.plan.hash,
        plan=plan_json(found.plan),
        parameters=found.plan.adapter.dimension,
        per_round=_guarantees(found.per_round),
        total=_guarantees(found.total),
        bytes_up=found.traffic.up,
        bytes_down=found.traffic.down,
        seconds_expected=found.duration.expected,
        seconds_longest=found.duration.longest,
        seconds_all_rounds=found.longest_total,
        budget=None if found.budget is None else _fit(found.budget, found.total.coordinator),
        refusal=(
            f"there is no population {found.plan.population!r}"
            if found.budget is None
            else found.refusal
        ),
    )


def _guarantees(three: Epsilons) -> GuaranteesBody:
    return GuaranteesBody(
        coordinator=Guarantee.of(three.coordinator),
        release=Guarantee.of(three.release),
        alone=Guarantee.of(three.alone),
    )


def _fit(fit: BudgetFit, whole: Epsilon) -> BudgetFitBody:
    return BudgetFitBody(
        epsilon_limit=fit.limit.epsilon,
        delta=fit.limit.delta,
        order=fit.limit.order,
        mode=whole.mode,
        unit=fit.limit.unit,
        adjacency=whole.adjacency,
        trust=whole.trust,
        epsilon_committed=finite(fit.committed),
        epsilon_after=finite(fit.committed_after),
        refusal=fit.refusal,
    )
