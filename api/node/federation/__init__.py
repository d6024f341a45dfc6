"""The owner's side of federations: joining, consent, what was spent, sent and is served."""

from __future__ import annotations

from fastapi import APIRouter

from api.errors import responses
from api.node.federation import consent, contributions, memberships, peers, plans, versions

router = APIRouter(prefix="/v1/federation", tags=["Federation"], responses=responses(400, 401, 403))
for feature in (memberships, peers, plans, consent, contributions, versions):
    router.include_router(feature.router)
