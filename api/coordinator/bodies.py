"""Bodies that routes of admins and of auditors share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from api.bodies import RowBody
from federation.plan import FederationPlan
from federation.signed import Signed
from federation.versions import Version
from privacy.records import to_json
from privacy.signing import Domain
from storage.coordinator_tables import VersionRow


class VersionBody(RowBody):
    """A released version; `record` is what the coordinator has signed, with its signature."""

    number: int
    promoted: bool
    parameters_hash: str
    round_id: str | None
    created_at: int
    record: dict[str, Any]


class RoundBody(RowBody):
    """A round; `slot` is which of the plan's rounds it is an attempt at.

    `joined` and `survivors` are counts, null until they are settled. Times are seconds since the
    epoch at the coordinator.
    """

    id: str
    number: int
    slot: int
    stage: str
    reason: str | None
    started_at: float
    deadline: float
    ended_at: float | None
    joined: int | None
    survivors: int | None


class RoundList(BaseModel):
    data: list[RoundBody]


def plan_json(plan: FederationPlan) -> dict[str, Any]:
    """The plan as it is signed."""
    value = to_json(plan)
    if not isinstance(value, dict):
        raise TypeError("a plan is an object")
    return value


def version_body(row: VersionRow, promoted: int, coordinator: str) -> VersionBody:
    """A stored version, its signature checked."""
    signed = Signed.from_bytes(row.record, Version, Domain.VERSION, coordinator)
    return VersionBody.of(
        row,
        promoted=row.number == promoted,
        round_id=signed.record.round_id,
        record={
            "record": to_json(signed.record),
            "signer": signed.signer,
            "signature": signed.signature,
        },
    )
