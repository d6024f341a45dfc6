"""Enrolment tokens: one for each node, shown once."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.bodies import RowBody
from api.coordinator.auth import Admin, AuthorityDep, CoordinatorDep
from api.coordinator.names import NAME, Label, OfPopulation
from api.errors import responses
from federation.coordinator import enrolment, overview
from federation.roster import fingerprint

router = APIRouter(
    prefix="/v1/admin/tokens", tags=["Enrolment"], responses=responses(400, 401, 403)
)

LONGEST_SECONDS = 90 * 86_400


class NewTokenRequest(BaseModel):
    population: str = Field(pattern=NAME)
    label: Label = ""
    expires_in: Annotated[int, Field(ge=60, le=LONGEST_SECONDS)] = enrolment.TOKEN_SECONDS


class CreatedToken(BaseModel):
    """`token` is shown this once; its first part is the coordinator's public key.

    `fingerprint` is that key once more, for the node's owner to compare.
    """

    token: str
    fingerprint: str
    population: str
    label: str
    expires_in: int


class TokenBody(RowBody):
    """`participant_id`: whoever has used it; null while nobody has."""

    population: str
    label: str
    created_at: int
    expires_at: int
    participant_id: int | None


class TokenList(BaseModel):
    data: list[TokenBody]


@router.post("", status_code=201, responses=responses(404))
def create_token(authority: AuthorityDep, _admin: Admin, new: NewTokenRequest) -> CreatedToken:
    """Make a token with which one node can enrol, once."""
    token = enrolment.issue_token(authority, new.population, new.label, new.expires_in)
    return CreatedToken(
        token=token.reveal(),
        fingerprint=fingerprint(authority.identity),
        population=new.population,
        label=new.label,
        expires_in=new.expires_in,
    )


@router.get("")
def list_tokens(
    coordinator: CoordinatorDep, _admin: Admin, population: OfPopulation = None
) -> TokenList:
    """All tokens without their secrets, the newest first."""
    with coordinator.database.read() as session:
        found = overview.tokens(session, population)
        return TokenList(data=[TokenBody.of(row, participant_id=row.used_by) for row in found])
