"""What a page asks of its own application: it may close while it waits."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from api.pages.client import Api


def test_a_page_that_closes_while_it_waits_leaves_nothing_behind() -> None:
    """An application that waited for a reader who left would keep its server from ever ending."""

    async def run() -> set[asyncio.Task[object]]:
        asked, answered = asyncio.Event(), asyncio.Event()

        async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
            asked.set()
            await answered.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for piece in (b"1", b"2"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})

        page = asyncio.create_task(Api(app, lambda: "a visitor").get("/"))
        await asked.wait()
        page.cancel()
        await asyncio.wait({page})
        assert page.cancelled()
        answered.set()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        _, pending = await asyncio.wait(others, timeout=5)
        return pending

    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(run()) == set()
    finally:
        loop.close()
