"""A request whose body stops coming is given up; uvicorn itself waits for ever."""

from __future__ import annotations

import asyncio

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Between two pieces of a body; a slow line still sends one much more often.
SILENT_SECONDS = 30.0


class SlowBodyMiddleware:
    """Ends requests whose body pauses for longer than SILENT_SECONDS with 408 (RFC 9110, 15.5.9).

    Headers that come slowly are not seen here: they are in the server's hands until all are there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        complete = False

        async def receive_in_time() -> Message:
            nonlocal complete
            if complete:  # what is awaited now is the end of the connection
                return await receive()
            try:
                async with asyncio.timeout(SILENT_SECONDS):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(
                    408, "the rest of the body did not come", {"Connection": "close"}
                ) from None
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time, send)
