"""What the owner agrees to, and what was spent of it."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from api.errors import responses
from api.node.auth import NodeDep, NodeOwner
from api.node.federation.refusals import refusals
from federation.participant.policy import ConsentPolicy

router = APIRouter()


class OdometerBody(BaseModel):
    """What one subject may have lost to all coordinators together. `debits` counts rounds.
    Null fields: nothing was ever joined."""

    unit: str = "subject"
    epsilon_spent: float | None
    epsilon_limit: float | None
    delta: float | None
    order: int | None
    debits: int


@router.get("/policy")
def get_policy(node: NodeDep, _owner: NodeOwner) -> ConsentPolicy:
    """What the owner agrees to."""
    with refusals():
        return node.federation.consent.policy


@router.put("/policy", responses=responses(409))
def put_policy(node: NodeDep, _owner: NodeOwner, policy: ConsentPolicy) -> ConsentPolicy:
    """Change it; fields that are left out take their safe defaults. Nothing spent is forgotten."""
    with refusals():
        node.federation.consent.set_policy(policy)
    node.federation.refresh()
    return policy


@router.get("/odometer")
def get_odometer(node: NodeDep, _owner: NodeOwner) -> OdometerBody:
    """What was spent so far, and the limit."""
    with refusals():
        file = node.federation.odometer()
    if file is None:
        return OdometerBody(
            epsilon_spent=None, epsilon_limit=None, delta=None, order=None, debits=0
        )
    limit = file.odometer.limit
    return OdometerBody(
        epsilon_spent=file.odometer.epsilon_spent(),
        epsilon_limit=limit.epsilon,
        delta=limit.delta,
        order=limit.order,
        debits=file.odometer.charged(),
    )
