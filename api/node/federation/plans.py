"""Plans that the node has seen, and its models that a plan may adapt."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel

from api.bodies import RowBody
from api.errors import responses
from api.node.auth import ModelsDep, NodeDep, NodeOwner
from api.node.federation.refusals import refusals
from federation.adapter_spec import AdapterKind
from federation.participant import overview
from federation.participant.adoption import read_known_plan
from federation.participant.policy import ConsentPolicy
from privacy.guarantee import Epsilon, epsilons
from storage.membership_tables import KnownPlan

router = APIRouter()


class EpsilonBody(RowBody):
    """An epsilon with everything without which it means nothing."""

    epsilon: float
    epsilon_two_nodes: float | None
    delta: float
    mode: str
    unit: str
    adjacency: str
    trust: str


class PlanBody(RowBody):
    """`accepted` if `refusals` is empty."""

    membership: str
    federation: str
    plan_hash: str
    adapter: str
    accepted: bool
    refusals: list[str]
    coordinator: EpsilonBody
    release: EpsilonBody
    alone: EpsilonBody


class PlanList(BaseModel):
    data: list[PlanBody]


class ModuleBody(RowBody):
    """A linear module, by its name in the model, with the lengths of what goes in and out."""

    name: str
    inputs: int
    outputs: int


class ModelBody(RowBody):
    """`identity` is how plans name the model; `dimension` is that of an embedder's vectors,
    `modules` are those of a generator that an adapter is usually for."""

    kind: AdapterKind
    identity: str
    dimension: int | None
    modules: list[ModuleBody]


class AdaptableModelList(BaseModel):
    data: list[ModelBody]


@router.get("/plans")
def list_plans(node: NodeDep, _owner: NodeOwner) -> PlanList:
    """The plans that the node has seen, what they would cost, and why some are refused."""
    with node.database.read() as session:
        found = overview.plans(session)
        return PlanList(data=[_body(row, row.refusals.splitlines()) for row in found])


@router.post("/policy/effect", responses=responses(503))
def weigh_policy(
    node: NodeDep, _models: ModelsDep, _owner: NodeOwner, policy: ConsentPolicy
) -> PlanList:
    """The same plans as a policy would have them accepted or refused; it is not put in force."""
    with refusals():
        return PlanList(data=[_body(row, why) for row, why in node.federation.weigh(policy)])


@router.get("/models", responses=responses(503))
def list_models(node: NodeDep, _models: ModelsDep, _owner: NodeOwner) -> AdaptableModelList:
    """The models of this node that a federation may adapt, for whoever plans one."""
    found = node.federation.base_models()
    return AdaptableModelList(
        data=[
            ModelBody.of(
                model, kind=kind, modules=[ModuleBody.of(module) for module in model.modules]
            )
            for kind, model in found.items()
        ]
    )


def _body(row: KnownPlan, reasons: Sequence[str]) -> PlanBody:
    plan = read_known_plan(row)
    spent = epsilons(plan.privacy)
    return PlanBody.of(
        row,
        membership=row.membership_id,
        adapter=plan.adapter.kind,
        accepted=not reasons,
        refusals=list(reasons),
        coordinator=_epsilon(spent.coordinator),
        release=_epsilon(spent.release),
        alone=_epsilon(spent.alone),
    )


def _epsilon(epsilon: Epsilon) -> EpsilonBody:
    return EpsilonBody.of(epsilon, epsilon=epsilon.value, epsilon_two_nodes=epsilon.two_nodes)
