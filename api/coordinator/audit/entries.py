"""The ledger in short, line by line, as tables and charts show it."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, ValidationError

from api.coordinator.auth import CoordinatorDep, Staff
from api.coordinator.names import Limit, PopulationName, Start
from api.errors import responses
from federation.coordinator import overview, populations
from privacy.ledger_records import Result
from privacy.limits import Unit
from privacy.plan import Mode

router = APIRouter(prefix="/v1/audit/ledgers", tags=["Audit"], responses=responses(400, 401, 404))


class _Part(BaseModel):
    """Some fields of a record; what is not named is left out."""

    model_config = ConfigDict(strict=True, frozen=True)


class LimitPart(_Part):
    """Of a record that sets a limit."""

    unit: Unit
    order: int
    epsilon: float
    delta: float


class PlanPart(_Part):
    """Of the plan of a round."""

    mode: Mode


class FactsPart(_Part):
    """What happened in a round."""

    federation: str
    round_id: str
    plan: PlanPart
    charged: bool
    result: Result
    reason: str | None
    survivors: int | None
    receipts: int | None


class AccountsPart(_Part):
    """What the budget has spent with a round, at the limit's order and delta."""

    epsilon_before: float
    epsilon_after: float


class RoundPart(_Part):
    """Of a record of a round."""

    facts: FactsPart
    accounts: AccountsPart


class RecordPart(_Part):
    """Of a record: it has either a limit or a round."""

    sequence: int
    time: str
    previous: str
    limit: LimitPart | None
    round: RoundPart | None


class SealedPart(_Part):
    record: RecordPart
    signer: str


class Entry(BaseModel):
    """A line, unverified. `number` counts from 1 as in the findings of a verification; `sealed` is
    null where the line is no record."""

    number: int
    sealed: SealedPart | None


class EntryPage(BaseModel):
    """Entries from the line after `start` on; `next` is where the following page starts."""

    data: list[Entry]
    total: int
    next: int | None


@router.get("/{population}/entries")
def list_entries(
    coordinator: CoordinatorDep,
    _staff: Staff,
    population: PopulationName,
    start: Start = 0,
    limit: Limit = 1_000,
) -> EntryPage:
    """The records in short, in their order."""
    with coordinator.database.read() as session:
        overview.population(session, population)
        total = populations.ledger_length(session, population)
        lines = populations.lines(session, population, start, limit)
        data = [
            Entry(number=start + place, sealed=_read(line)) for place, line in enumerate(lines, 1)
        ]
    end = start + len(data)
    return EntryPage(data=data, total=total, next=end if data and end < total else None)


def _read(line: bytes) -> SealedPart | None:
    try:
        return SealedPart.model_validate_json(line)
    except ValidationError:
        return None
