"""Requests from a page to the application that serves it, in the same process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.types import ASGIApp, Message, Scope

VISITOR = "alcove.visitor"
"""Entry of an ASGI scope: the `Visitor` whose key stands for an Authorization header. No client can
send one, since servers make a scope's entries and none of that name."""

LARGEST_PAGE = 200
"""Entries of a list that the API gives at once."""


class RefusedError(Exception):
    """The API said no; the message is its own, for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class SignedOutError(Exception):
    """The session is over, or its key was revoked."""


class Api:
    """The API as its own page sees it, with the rights of the visitor's key.

    `visitor` is asked before each request, so that signing out ends every open page.

    Raises (every method):
        RefusedError: the API refused.
        SignedOutError: there is nobody to ask for.
    """

    def __init__(self, app: ASGIApp, visitor: Callable[[], object]) -> None:
        self._visitor = visitor
        self._client = httpx.AsyncClient(
            transport=_AppTransport(app, self._signed_in),
            base_url="http://page",
            timeout=None,  # noqa: S113 - as long as an answer takes
        )

    async def get(self, path: str, **query: Any) -> Any:
        """The answer's JSON. Query parameters that are None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return await self.send("GET", path, params=given)

    async def send(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The answer's JSON, None where it has no body; `more` are httpx's arguments."""
        response = await self._client.request(method, path, json=body, **more)
        _check(response)
        return response.json() if response.content else None

    async def every(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All entries of a list that comes in pages."""
        found: list[dict[str, Any]] = []
        while True:
            page = await self.get(path, **query)
            found += page["data"]
            # Where the next page begins, and the parameter that asks for it.
            begins = {"after": page.get("next_after"), "start": page.get("next")}
            more = {name: value for name, value in begins.items() if value is not None}
            if not more:
                return found
            query |= more

    async def first(
        self, path: str, count: int, *, ids: Collection[str] = (), **query: Any
    ) -> tuple[list[dict[str, Any]], bool]:
        """The first entries of a list that comes in pages, and whether there are more: `count`, and
        as many as it takes for those with `ids` to be among them."""
        found: list[dict[str, Any]] = []
        missing, after = set(ids), None
        while len(found) < count or missing:
            left = count - len(found)
            limit = min(LARGEST_PAGE, left) if left > 0 else LARGEST_PAGE
            page = await self.get(path, limit=limit, after=after, **query)
            found += page["data"]
            missing -= {entry["id"] for entry in page["data"]}
            after = page["next_after"]
            if after is None:
                return found, False
        return found, True

    @asynccontextmanager
    async def events(
        self, path: str, body: Any, **more: Any
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The server-sent events of an answer, as JSON; leaving the block hangs up."""
        async with self._client.stream("POST", path, json=body, **more) as response:
            if response.is_error:
                await response.aread()
            _check(response)
            yield _events(response)

    def _signed_in(self) -> object:
        visitor = self._visitor()
        if visitor is None:
            raise SignedOutError
        return visitor


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        data = line.removeprefix("data: ")
        if data in (line, "[DONE]"):
            continue
        event = json.loads(data)
        if error := event.get("error"):
            raise RefusedError(502, error["code"], error["message"])
        yield event


def _check(response: httpx.Response) -> None:
    if response.status_code == 401:
        raise SignedOutError
    if response.is_error:
        error = response.json()["error"]
        raise RefusedError(response.status_code, error["code"], error["message"])


class _AppTransport(httpx.AsyncBaseTransport):
    """httpx's own transport to an ASGI application keeps an answer until it is complete; this one
    hands on each piece, and tells the application when its reader has left."""

    def __init__(self, app: ASGIApp, visitor: Callable[[], object]) -> None:
        self._app = app
        self._visitor = visitor

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": None,
            "server": None,
            VISITOR: self._visitor(),
        }
        exchange = _Exchange(await request.aread())
        task = asyncio.create_task(exchange.run(self._app, scope))
        try:
            start = await exchange.next()
        except asyncio.CancelledError:
            # The page was closed: without a reader the application would wait for ever.
            exchange.leave()
            raise
        if start is None:
            await task
            raise RuntimeError("the application ended without an answer")
        return httpx.Response(
            start["status"], headers=start["headers"], stream=_Body(exchange, task)
        )


class _Exchange:
    """The two directions of one request."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._left = asyncio.Event()
        # One piece, so that whoever writes waits for whoever reads.
        self._pieces: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=1)

    async def run(self, app: Callable[..., Awaitable[None]], scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            if not self._left.is_set():
                await self._pieces.put(None)

    async def next(self) -> Message | None:
        """What the application sent next; None at its end."""
        return await self._pieces.get()

    def leave(self) -> None:
        self._left.set()
        # Whoever waits to write goes on, and finds that nobody reads.
        while not self._pieces.empty():
            self._pieces.get_nowait()

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if not self._left.is_set():
            await self._pieces.put(message)


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchange: _Exchange, task: asyncio.Task[None]) -> None:
        self._exchange = exchange
        self._task = task

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (message := await self._exchange.next()) is not None:
            yield message.get("body", b"")
            if not message.get("more_body", False):
                return

    async def aclose(self) -> None:
        self._exchange.leave()
        # What failed in the application is logged and answered there (`api.errors`).
        await asyncio.gather(self._task, return_exceptions=True)
