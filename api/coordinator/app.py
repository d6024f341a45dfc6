"""The coordinator's HTTP application; each worker process has one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from api import errors
from api.coordinator import admin, audit, health
from api.coordinator.auth import KeyMiddleware
from api.coordinator.coordinator import Coordinator
from api.coordinator.participant import federations, rounds, sessions, work
from api.coordinator.participant.work import Watcher
from api.coordinator.unavailable import PASSING, unavailable
from api.errors import ApiError
from api.metrics import MeasuringMiddleware, RequestMetrics
from api.openapi import DocumentedAPI
from api.slow_bodies import SlowBodyMiddleware
from federation.coordinator.driver import Driver
from federation.coordinator.refused import Kind, RefusedError
from storage.coordinator_settings import CoordinatorSettings
from storage.settings import MEBIBYTE

LARGEST_BODY = 2 * MEBIBYTE
STATUSES = {Kind.INVALID: 400, Kind.FORBIDDEN: 403, Kind.UNKNOWN: 404, Kind.CONFLICT: 409}


def create_app(coordinator: Coordinator, *, drive: bool = True, pages: bool = False) -> FastAPI:
    """The application of an opened coordinator, which it closes when it ends.

    Without `drive` it answers and moves no round; another worker, or the caller, does. With
    `pages`, at most once in a process, people can use it in a browser.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.watcher = Watcher(coordinator.authority)
        watching = asyncio.create_task(app.state.watcher.run())
        driver = Driver(coordinator.authority)
        if drive:
            driver.start()
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        if drive:
            await to_thread.run_sync(driver.stop)
        await to_thread.run_sync(coordinator.close)

    app = DocumentedAPI(
        title="Alcove coordinator",
        version="1",
        description="Trains shared adapters from sums that it can open only in aggregate.",
        lifespan=lifespan,
        max_body_size=LARGEST_BODY,
        docs_url=None,
        redoc_url=None,
    )
    app.state.coordinator = coordinator
    errors.install(app)
    app.add_exception_handler(RefusedError, _refused)
    for passing in PASSING:
        app.add_exception_handler(passing, unavailable)
    app.add_middleware(SlowBodyMiddleware)
    app.add_middleware(KeyMiddleware, coordinator=coordinator)
    app.state.metrics = RequestMetrics()
    app.add_middleware(MeasuringMiddleware, metrics=app.state.metrics)
    for feature in (sessions, federations, work, rounds, health):
        app.include_router(feature.router)
    for router in (*admin.routers, *audit.routers):
        app.include_router(router)
    if pages:
        from api.coordinator.pages import install

        install(app, coordinator)
    return app


def app_from_environment(*, alone: bool) -> FastAPI:
    """The application of the coordinator that ALCOVE_COORDINATOR_HOME names: a worker's factory.

    Only a worker that is `alone` has pages: an open page lives in one process.
    """
    settings = CoordinatorSettings()
    return create_app(Coordinator(settings), pages=alone and settings.pages)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RefusedError):
        raise TypeError("this handles refusals only") from error
    return ApiError(STATUSES[error.kind], error.code, error.message).response()
