"""The door in front of the pages: who may pass, where requests come from, what a page may load."""

from __future__ import annotations

from collections.abc import Callable, Collection, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.pages.client import VISITOR
from api.pages.sessions import Sessions, Visitor

PREFIX = "/ui"
SIGN_IN = "/sign-in"
SIGN_OUT = "/sign-out"
API = "/api/"
SESSION = "session"
"""Where the id of an open session stands in a browser's signed cookie."""

_ASSETS = "/_nicegui/"
_SAFE = frozenset({"GET", "HEAD"})

PAGE_POLICY = "; ".join(
    [
        "default-src 'none'",
        # NiceGUI starts each page with a script in it and compiles Vue's templates in the browser.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Of what the API answers: whatever it is, it is no page."""
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Not "no-referrer", with which forms would send no origin either.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class DoorMiddleware:
    """Lets nobody without a session any further than the sign-in page, nor a request that changes
    something or opens a socket unless it comes from these pages.

    The latter is the protection against forgery across sites, beside SameSite=Strict: browsers send
    Origin with every such request (Fetch, section 3.2) and no page can change it.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, *, is_secure: bool) -> None:
        self._app = app
        self._sessions = sessions
        # A proxy may speak HTTPS for a server on loopback, so that is always right.
        self._schemes = ("https",) if is_secure else ("https", "http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, _guarded(scope, send))
            return
        await self._app(scope, receive, _guarded(scope, send))

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        path = page_path(scope)
        is_socket = scope["type"] == "websocket"
        changes = is_socket or scope["method"] not in _SAFE
        if changes and not self._is_from_here(Headers(scope=scope)):
            return _closed if is_socket else PlainTextResponse("sent by another site", 403)
        if path == SIGN_IN and not is_socket:
            return None
        if is_socket and path.startswith(API):
            return _closed
        if visitor_of(HTTPConnection(scope), self._sessions) is not None:
            return None
        return _closed if is_socket else RedirectResponse(PREFIX + SIGN_IN, 303)

    def _is_from_here(self, headers: Headers) -> bool:
        host = headers.get("host")
        return headers.get("origin") in [f"{scheme}://{host}" for scheme in self._schemes]


class Forward:
    """Hands a browser's own request below `PREFIX/api`, an upload or a download, to the API."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visitor = visitor_of(HTTPConnection(scope), self._sessions)
        if scope["type"] != "http" or visitor is None:
            raise RuntimeError("the door lets only HTTP of a session through")
        path = scope["path"].removeprefix(scope["root_path"])
        own = (b"authorization", b"cookie")
        forwarded: MutableMapping[str, Any] = {
            **{name: scope[name] for name in _KEPT if name in scope},
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "headers": [(name, value) for name, value in scope["headers"] if name not in own],
            VISITOR: visitor,
        }
        await self._app(forwarded, receive, send)


_KEPT = (
    "type", "asgi", "http_version", "method", "scheme", "query_string", "client", "server",
    "extensions",
)  # fmt: skip


def visitor_of(connection: HTTPConnection, sessions: Sessions) -> Visitor | None:
    """Who sent it; None without an open session."""
    return sessions.find(connection.session.get(SESSION))


def is_open(path: str, more: Collection[str]) -> bool:
    """Whether a request needs no key: it is in `more`, or the door looks after it."""
    return path in more or path == PREFIX or path.startswith(f"{PREFIX}/")


def page_path(scope: Scope) -> str:
    """The path below PREFIX."""
    path: str = scope["path"]
    return path.removeprefix(PREFIX)


class WithoutPrefixMiddleware:
    """NiceGUI would write X-Forwarded-Prefix into pages and redirections; no proxy sets one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = [item for item in scope.get("headers", ()) if item[0] != b"x-forwarded-prefix"]
        await self._app({**scope, "headers": own}, receive, send)


def _guarded(scope: Scope, send: Send) -> Callable[[Message], Any]:
    """Adds what limits a page; nothing but assets is kept by the browser."""
    path = page_path(scope)
    policy = DATA_POLICY if path.startswith(API) else PAGE_POLICY

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Content-Security-Policy", policy)
            if not path.startswith(_ASSETS):
                headers["Cache-Control"] = "no-store"
        await send(message)

    return guarded


async def _closed(_scope: Scope, receive: Receive, send: Send) -> None:
    """Refuses a socket before it is open: 403 (ASGI, websocket close before accept)."""
    await receive()
    await send({"type": "websocket.close", "code": 1008})
