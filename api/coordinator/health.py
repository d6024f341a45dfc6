"""/health says that the process answers, /ready that its database does, /metrics counts."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.coordinator.auth import CoordinatorDep, Staff
from api.errors import responses
from api.metrics import RequestMetrics

router = APIRouter(tags=["Operations"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    status: Literal["ready", "unavailable"]


@router.get("/health")
async def health() -> Health:
    """The process answers."""
    return Health()


@router.get("/ready", responses={503: {"model": Readiness}})
def ready(coordinator: CoordinatorDep) -> JSONResponse:
    """200 while the database answers, 503 otherwise."""
    try:
        with coordinator.database.read() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return JSONResponse({"status": "unavailable"}, 503, {"Retry-After": "5"})
    return JSONResponse({"status": "ready"})


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}, **responses(401)})
def metrics(_staff: Staff, request: Request) -> Response:
    """Prometheus' text format: requests of this process by route, and nothing about one node."""
    measured: RequestMetrics = request.app.state.metrics
    return Response(generate_latest(measured.registry), media_type=CONTENT_TYPE_LATEST)
