"""A federation as an auditor reads it: its privacy statement, and where its versions came from."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from api.coordinator.auth import AuthorityDep, CoordinatorDep, Staff
from api.coordinator.bodies import RoundBody, RoundList, VersionBody, plan_json, version_body
from api.coordinator.names import FederationName, Limit, Start
from api.errors import responses
from federation.coordinator import audits, federations, overview, populations
from federation.epsilon_course import CoursePoint, course
from federation.statement import Guarantee, PrivacyStatement, guarantees, statement
from privacy.budget import Step
from privacy.records import to_json

router = APIRouter(prefix="/v1/audit/federations", tags=["Audit"], responses=responses(400, 401))


class AuditedFederation(BaseModel):
    """A federation with the plan that was signed."""

    name: str
    population: str
    state: str
    reason: str | None
    plan_hash: str
    plan: dict[str, Any]


class AuditedFederationList(BaseModel):
    data: list[AuditedFederation]


class EpsilonCourse(BaseModel):
    """The three epsilons as rounds add up; what each means, and assumes, is in `guarantees`.

    `rounds`, `charged` and `participations` are the plan's, those that the budget was charged for,
    and the most that count for one node.
    """

    rounds: int
    charged: int
    participations: int
    guarantees: tuple[Guarantee, ...]
    data: tuple[CoursePoint, ...]


class ProvenVersion(VersionBody):
    """`ledger_record`: the sealed record of the round that released it; null for version 0."""

    ledger_record: dict[str, Any] | None


class ProvenVersionList(BaseModel):
    data: list[ProvenVersion]


class StatementForm(StrEnum):
    JSON = "json"
    TEXT = "text"


@router.get("")
def list_audited_federations(
    coordinator: CoordinatorDep, authority: AuthorityDep, _staff: Staff
) -> AuditedFederationList:
    """All federations with their plans."""
    with coordinator.database.read() as session:
        return AuditedFederationList(
            data=[
                AuditedFederation(
                    name=found.name,
                    population=found.population,
                    state=found.state,
                    reason=found.reason or None,
                    plan_hash=found.plan_hash,
                    plan=plan_json(federations.plan_of(found, authority)),
                )
                for found in overview.all_federations(session)
            ]
        )


@router.get(
    "/{federation}/statement",
    response_model=PrivacyStatement,
    responses={
        **responses(404),
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
    },
)
def get_statement(
    coordinator: CoordinatorDep,
    authority: AuthorityDep,
    _staff: Staff,
    federation: FederationName,
    form: StatementForm = StatementForm.JSON,
) -> PrivacyStatement | Response:
    """The privacy statement in plain words, with every assumption."""
    with coordinator.database.read() as session:
        plan = federations.plan_of(federations.get(session, federation), authority)
    made = statement(plan)
    return PlainTextResponse(made.to_text()) if form is StatementForm.TEXT else made


@router.get("/{federation}/epsilons", responses=responses(404))
def get_epsilon_course(
    coordinator: CoordinatorDep, authority: AuthorityDep, _staff: Staff, federation: FederationName
) -> EpsilonCourse:
    """What the plan's rounds cost up to each of them, charged or still to come."""
    with coordinator.database.read() as session:
        found = federations.get(session, federation)
        plan = federations.plan_of(found, authority)
        budget = populations.budget(session, found.population)
    charged = len(budget.rounds(plan.hash, Step.CHARGED))
    return EpsilonCourse(
        rounds=plan.privacy.rounds,
        charged=charged,
        participations=plan.privacy.max_participations,
        guarantees=guarantees(plan.privacy),
        data=course(plan.privacy, charged),
    )


@router.get("/{federation}/rounds", responses=responses(404))
def list_audited_rounds(
    coordinator: CoordinatorDep,
    _staff: Staff,
    federation: FederationName,
    start: Start = 0,
    limit: Limit = 100,
) -> RoundList:
    """Rounds with their stages, counts and reasons, the newest first."""
    with coordinator.database.read() as session:
        found = overview.rounds(session, federation, start=start, limit=limit)
        return RoundList(data=[RoundBody.of(row) for row in found])


@router.get("/{federation}/versions", responses=responses(404))
def list_proven_versions(
    coordinator: CoordinatorDep, authority: AuthorityDep, _staff: Staff, federation: FederationName
) -> ProvenVersionList:
    """Shared versions with the ledger records that produced them."""
    with coordinator.database.read() as session:
        promoted = federations.get(session, federation).promoted
        found = audits.provenance(session, authority, federation)
        return ProvenVersionList(
            data=[
                ProvenVersion(
                    **version_body(each.row, promoted, authority.identity).model_dump(),
                    ledger_record=None if each.record is None else to_json(each.record),
                )
                for each in found
            ]
        )
