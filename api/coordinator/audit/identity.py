"""Whose signatures an auditor checks."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from api.coordinator.auth import AuthorityDep, Staff
from api.errors import responses
from federation.roster import fingerprint

router = APIRouter(prefix="/v1/audit", tags=["Audit"], responses=responses(401))


class IdentityBody(BaseModel):
    """The key that signs plans, rosters, statements and the ledger."""

    public_key: str
    fingerprint: str


@router.get("/coordinator")
def get_identity(authority: AuthorityDep, _staff: Staff) -> IdentityBody:
    """The coordinator's public key; compare it with what nodes were told."""
    return IdentityBody(public_key=authority.identity, fingerprint=fingerprint(authority.identity))
