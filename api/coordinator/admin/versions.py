"""Released versions: listed, promoted, rolled back, downloaded."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.coordinator.auth import Admin, AuthorityDep, CoordinatorDep
from api.coordinator.bodies import VersionBody, version_body
from api.coordinator.names import FederationName, VersionNumber
from api.errors import responses
from federation.coordinator import federations, overview, versions

router = APIRouter(
    prefix="/v1/admin/federations/{federation}", tags=["Versions"],
    responses=responses(400, 401, 403, 404),
)  # fmt: skip

OCTETS = "application/octet-stream"


class VersionList(BaseModel):
    data: list[VersionBody]


class PromotedBody(BaseModel):
    """The version that nodes are told to try; whether they do is theirs to decide."""

    promoted: int


@router.get("/versions")
def list_versions(
    coordinator: CoordinatorDep, authority: AuthorityDep, _admin: Admin, federation: FederationName
) -> VersionList:
    """All versions, the oldest first."""
    with coordinator.database.read() as session:
        promoted = federations.get(session, federation).promoted
        rows = overview.all_versions(session, federation)
        return VersionList(data=[version_body(row, promoted, authority.identity) for row in rows])


@router.get(
    "/versions/{number}/parameters",
    response_class=Response,
    responses={200: {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}},
)
def download_version(
    coordinator: CoordinatorDep, _admin: Admin, federation: FederationName, number: VersionNumber
) -> Response:
    """The parameters: float32, little-endian, in the order of the plan's adapter spec."""
    with coordinator.database.read() as session:
        federations.get(session, federation)
        row = versions.get(session, federation, number, whole=True)
        name = f"{federation}-{number}.f32"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(row.parameters, media_type=OCTETS, headers=headers)


@router.post("/versions/{number}/promote")
def promote_version(
    authority: AuthorityDep, _admin: Admin, federation: FederationName, number: VersionNumber
) -> PromotedBody:
    """Tell nodes to try this version."""
    federations.promote(authority, federation, number)
    return PromotedBody(promoted=number)


@router.post("/roll-back", responses=responses(409))
def roll_back(authority: AuthorityDep, _admin: Admin, federation: FederationName) -> PromotedBody:
    """Tell nodes to try the version before the promoted one."""
    return PromotedBody(promoted=federations.roll_back(authority, federation))
