"""Requests of pages to their own application."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import Receive, Scope, Send

from api.pages.client import Api

SECONDS = 10


def test_the_application_comes_to_its_end_though_the_page_has_left() -> None:
    async def scenario() -> None:
        begun, may_answer, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
            begun.set()
            await may_answer.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for piece in (b"{", b"}"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            ended.set()

        asking = asyncio.create_task(Api(application, object).get("/slow"))
        await begun.wait()
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        may_answer.set()
        await asyncio.wait_for(ended.wait(), SECONDS)
        assert asking.cancelled()

    asyncio.run(scenario())
