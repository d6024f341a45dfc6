"""The node's HTTP application."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from anyio import to_thread
from fastapi import FastAPI

from api import errors
from api.metrics import MeasuringMiddleware
from api.node import (
    adapter_files,
    assistants,
    chat,
    conversations,
    documents,
    embeddings,
    federation,
    feedback,
    health,
    instructions,
    jobs,
    keys,
    models,
    personal,
    questions,
    search,
)
from api.node.auth import KeyMiddleware
from api.node.node import Node
from api.openapi import DocumentedAPI
from api.slow_bodies import SlowBodyMiddleware
from storage.settings import MEBIBYTE

log = structlog.get_logger()

LARGEST_BODY = 2 * MEBIBYTE


def create_app(
    node: Node,
    on_failure: Callable[[Exception], None],
    *,
    load: bool = True,
    participate: bool = False,
    pages: bool = False,
) -> FastAPI:
    """The application of an opened node; its models load while it answers /health already.

    `on_failure` is called, in another thread, with the reason why they cannot be loaded. Without
    `load` it stays "starting", which is enough for keys and for reading what the database holds.
    `participate`: see `Node.load`. With `pages`, at most once in a process, people can use it in a
    browser.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        def load_models() -> None:
            try:
                node.load(participate=participate)
                log.info("ready")
            except Exception as error:
                on_failure(error)

        loader = threading.Thread(target=load_models, name="load", daemon=True)
        if load:
            loader.start()
        yield
        if load:
            await to_thread.run_sync(loader.join)
        if node.models is not None:
            await node.models.engine.close()
        await to_thread.run_sync(node.close)

    app = DocumentedAPI(
        title="Alcove node",
        version="1",
        description="Private assistants that answer from their own documents.",
        lifespan=lifespan,
        max_body_size=LARGEST_BODY,
        docs_url=None,
        redoc_url=None,
    )
    app.state.node = node
    errors.install(app)
    app.add_middleware(SlowBodyMiddleware)
    app.add_middleware(KeyMiddleware, node=node)
    app.state.metrics = health.Metrics()
    app.add_middleware(MeasuringMiddleware, metrics=app.state.metrics)
    for feature in (
        models, chat, embeddings, search, assistants, documents, jobs, keys, federation, questions,
        personal, feedback, conversations, instructions, adapter_files, health,
    ):  # fmt: skip
        app.include_router(feature.router)
    if pages:
        from api.node.pages import install

        install(app, node)
    return app
