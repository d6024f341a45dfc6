"""What participants read before they agree to anything: roster, plans, versions, public files."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.bodies import RowBody
from api.coordinator.auth import AuthorityDep, Participant
from api.coordinator.names import FederationName, VersionNumber
from api.coordinator.participant.schemas import (
    BYTES,
    JSON_BYTES,
    BlobHash,
    octets,
    stored_json,
)
from api.errors import responses
from federation.coordinator import outbox, versions
from storage.coordinator_tables import FederationState

router = APIRouter(prefix="/v1/participant", tags=["Participation"], responses=responses(401))


class FederationBody(RowBody):
    """`promoted` is the version that nodes are told to try."""

    name: str
    state: FederationState
    plan_hash: str
    promoted: int


class FederationList(BaseModel):
    data: list[FederationBody]


@router.get("/roster", response_class=Response, responses=JSON_BYTES)
def roster(authority: AuthorityDep, caller: Participant) -> Response:
    """The signed roster of the population."""
    with authority.database.look() as connection:
        return stored_json(outbox.roster(connection, caller))


@router.get("/federations")
def list_federations(authority: AuthorityDep, caller: Participant) -> FederationList:
    """The population's federations."""
    with authority.database.read() as session:
        found = outbox.federations(session, caller)
    return FederationList(data=[FederationBody.of(one) for one in found])


@router.get(
    "/federations/{name}/plan", response_class=Response, responses=JSON_BYTES | responses(400, 404)
)
def plan(authority: AuthorityDep, caller: Participant, name: FederationName) -> Response:
    """The signed plan."""
    with authority.database.read() as session:
        return stored_json(outbox.federation(session, caller, name).plan)


@router.get(
    "/federations/{name}/versions/{number}",
    response_class=Response,
    responses=JSON_BYTES | responses(400, 404),
)
def version(
    authority: AuthorityDep, caller: Participant, name: FederationName, number: VersionNumber
) -> Response:
    """The signed record of a version."""
    with authority.database.read() as session:
        outbox.federation(session, caller, name)
        return stored_json(versions.get(session, name, number).record)


@router.get(
    "/federations/{name}/versions/{number}/parameters",
    response_class=Response,
    responses=BYTES | responses(400, 404),
)
def parameters(
    authority: AuthorityDep, caller: Participant, name: FederationName, number: VersionNumber
) -> Response:
    """The vector of a version: float32, little-endian."""
    with authority.database.read() as session:
        outbox.federation(session, caller, name)
        return octets(versions.get(session, name, number, whole=True).parameters)


@router.get("/blobs/{sha256}", response_class=Response, responses=BYTES | responses(400, 404))
def blob(authority: AuthorityDep, _caller: Participant, sha256: BlobHash) -> Response:
    """A public file that a plan names."""
    with authority.database.read() as session:
        return octets(outbox.blob(session, sha256))
