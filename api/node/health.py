"""/health says that the process answers, /ready that it can work, /metrics how it does."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from sqlalchemy import func, select

from api.errors import responses
from api.metrics import RequestMetrics
from api.node.auth import NodeDep, NodeOwner
from storage.node_tables import Assistant, Chunk, Document, ItemState, JobItem

router = APIRouter(tags=["Operations"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    status: Literal["ready", "starting"]


@router.get("/health")
async def health() -> Health:
    """The process answers."""
    return Health()


@router.get("/ready", responses={503: {"model": Readiness}})
async def ready(node: NodeDep) -> JSONResponse:
    """200 once models and indexes are loaded, 503 before."""
    if node.models is None:
        return JSONResponse({"status": "starting"}, 503, {"Retry-After": "5"})
    return JSONResponse({"status": "ready"})


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}, **responses(401, 403)})
def metrics(node: NodeDep, _owner: NodeOwner, request: Request) -> Response:
    """Prometheus' text format: requests by route, and totals over all assistants."""
    measured: Metrics = request.app.state.metrics
    with node.database.read() as session:
        for table, gauge in ((Assistant, measured.assistants), (Document, measured.documents)):
            gauge.set(session.scalar(select(func.count()).select_from(table)) or 0)
        measured.passages.set(session.scalar(select(func.count()).select_from(Chunk)) or 0)
        waiting = select(func.count()).where(JobItem.state == ItemState.PENDING)
        measured.waiting.set(session.scalar(waiting) or 0)
    return Response(generate_latest(measured.registry), media_type=CONTENT_TYPE_LATEST)


class Metrics(RequestMetrics):
    """Beside the requests, totals over all assistants."""

    def __init__(self) -> None:
        super().__init__()
        self.assistants = Gauge("alcove_assistants", "Assistants", registry=self.registry)
        self.documents = Gauge("alcove_documents", "Documents", registry=self.registry)
        self.passages = Gauge("alcove_passages", "Passages", registry=self.registry)
        self.waiting = Gauge("alcove_files_waiting", "Uploads not read yet", registry=self.registry)
