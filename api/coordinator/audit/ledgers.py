"""The ledger of a population: read by pages, exported, verified."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.bodies import RowBody
from api.coordinator.auth import AuthorityDep, CoordinatorDep, Staff
from api.coordinator.names import Limit, PopulationName, Start
from api.errors import responses
from federation.coordinator import audits, overview, populations
from federation.statement import finite
from privacy.guarantee import ADJACENCY

router = APIRouter(prefix="/v1/audit/ledgers", tags=["Audit"], responses=responses(400, 401, 404))

JSON_LINES = "application/jsonl"


class LedgerPage(BaseModel):
    """Sealed records from `start` on; `next` is where the following page starts."""

    data: list[dict[str, Any]]
    total: int
    next: int | None


class VerificationBody(RowBody):
    """The outcome of `alcove audit verify`, run by the coordinator on itself.

    An auditor who does not trust it exports the file and verifies offline, with receipts that
    come from nodes. Epsilons are towards the coordinator; one without a bound is null.
    """

    ok: bool
    head: str
    records: int
    rounds_charged: int
    receipts: int
    unit: str | None
    adjacency: str
    modes: list[str]
    epsilon: float | None
    delta: float | None
    epsilon_renyi: float | None
    epsilon_pld: float | None
    findings: list[dict[str, Any]]
    statements: list[str]


@router.get("/{population}")
def read_ledger(
    coordinator: CoordinatorDep,
    _staff: Staff,
    population: PopulationName,
    start: Start = 0,
    limit: Limit = 100,
) -> LedgerPage:
    """Records in their order."""
    with coordinator.database.read() as session:
        overview.population(session, population)
        total = populations.ledger_length(session, population)
        lines = populations.lines(session, population, start, limit)
        data = [audits.line_json(line) for line in lines]
    end = start + len(data)
    return LedgerPage(data=data, total=total, next=end if data and end < total else None)


@router.get(
    "/{population}/export",
    response_class=Response,
    responses={200: {"content": {JSON_LINES: {"schema": {"type": "string"}}}}},
)
def export_ledger(
    coordinator: CoordinatorDep, _staff: Staff, population: PopulationName
) -> Response:
    """The file that `alcove audit verify` reads: one sealed record a line."""
    with coordinator.database.read() as session:
        file = audits.export(session, population)
    headers = {"Content-Disposition": f'attachment; filename="{population}.jsonl"'}
    return Response(file, media_type=JSON_LINES, headers=headers)


@router.get("/{population}/verification")
def verify_ledger(
    coordinator: CoordinatorDep, authority: AuthorityDep, _staff: Staff, population: PopulationName
) -> VerificationBody:
    """Chain, signatures, every epsilon, and the receipts that participants have sent."""
    with coordinator.database.read() as session:
        report = audits.verification(session, authority, population)
    return VerificationBody.of(
        report,
        adjacency=ADJACENCY,
        epsilon=finite(report.epsilon),
        epsilon_renyi=finite(report.epsilon_renyi),
        epsilon_pld=finite(report.epsilon_pld),
        findings=[asdict(finding) for finding in report.findings],
        statements=report.statements(),
    )
