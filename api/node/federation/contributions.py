"""What the node has contributed to, and the receipts of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node.auth import NodeDep, NodeOwner
from federation.participant import overview
from storage.membership_tables import Outcome

router = APIRouter()


class ContributionBody(RowBody):
    """A round that the node entered, and what left it: one masked vector of `sent_bytes`."""

    round_id: str
    federation: str
    plan_hash: str
    seen_at: float
    outcome: Outcome
    reason: str | None
    sent_at: int | None
    sent_bytes: int | None
    sent_hash: str | None
    receipt: bool


class ContributionList(BaseModel):
    data: list[ContributionBody]


@router.get("/contributions")
def list_contributions(node: NodeDep, _owner: NodeOwner) -> ContributionList:
    """Every round that the node entered, the newest first."""
    with node.database.read() as session:
        found = overview.contributions(session)
        return ContributionList(
            data=[ContributionBody.of(row, receipt=row.receipt is not None) for row in found]
        )


@router.get("/receipts/{round_id}", responses=responses(404))
def get_receipt(
    node: NodeDep, _owner: NodeOwner, round_id: Annotated[str, Path(max_length=100)]
) -> Response:
    """The countersigned statement of a round, for `alcove audit verify --receipts`."""
    with node.database.read() as session:
        receipt = overview.receipt(session, round_id)
    if receipt is None:
        raise ApiError(404, "receipt_not_found", f"there is no receipt of round {round_id!r}")
    return Response(receipt, media_type="application/json")
