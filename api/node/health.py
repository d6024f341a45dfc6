"""/health says that the process answers, /ready that it can work, /metrics how it does."""

from __future__ import annotations

import time
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from sqlalchemy import func, select
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import responses
from api.node.auth import NodeDep, NodeOwner
from storage.node_tables import Assistant, Chunk, Document, ItemState, JobItem

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"})

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


class Metrics:
    """Counts by route template and status; never a path, a question or a name."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        common: dict[str, Any] = {"registry": self.registry}
        labels = ["method", "route", "status"]
        self.requests = Counter("alcove_requests", "Requests answered", labels, **common)
        self.seconds = Histogram(
            "alcove_request_seconds", "Time to the start of a response", ["route"], **common
        )
        self.assistants = Gauge("alcove_assistants", "Assistants", **common)
        self.documents = Gauge("alcove_documents", "Documents", **common)
        self.passages = Gauge("alcove_passages", "Passages", **common)
        self.waiting = Gauge("alcove_files_waiting", "Uploads not read yet", **common)


class MeasuringMiddleware:
    """Counts every response. Plain ASGI, so that a client's hanging up reaches the endpoint."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "unknown")
                # A made-up method would be a time series of its own, for ever.
                method = scope["method"] if scope["method"] in METHODS else "other"
                self._metrics.requests.labels(method, route, str(message["status"])).inc()
                self._metrics.seconds.labels(route).observe(time.perf_counter() - start)
            await send(message)

        await self._app(scope, receive, count)
