"""Puts pages on an application: `install` once in a process, since NiceGUI's pages are global."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import RedirectResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from api.pages.door import API, PREFIX, DoorMiddleware, Forward, WithoutPrefixMiddleware
from api.pages.sessions import LIFETIME_SECONDS, Sessions, Visitor
from api.pages.sign_in import PATHS, sign_in_app


@dataclass(frozen=True, slots=True)
class Pages:
    """What an application's pages need to know of it.

    Attributes:
        title: shown in every page's head.
        hint: what key is asked for at sign-in.
        home: the server's folder; NiceGUI keeps choices like the dark mode below it.
        is_secure: whether browsers come over HTTPS.
        identify: the visitor whose key a text is; raises ApiError where it is none.
        define: imports NiceGUI and defines the pages, which call `app`.
    """

    title: str
    hint: str
    home: Path
    is_secure: bool
    identify: Callable[[str], Visitor]
    define: Callable[[FastAPI, Sessions], None]


def install(app: FastAPI, pages: Pages) -> None:
    """Serve the pages below PREFIX."""
    sessions = Sessions()
    folder = pages.home / "pages"
    # Sessions end with the process that opened them, and their choices with them.
    shutil.rmtree(folder, ignore_errors=True)
    # Read once, when NiceGUI is imported; without it files appear in the working directory.
    os.environ["NICEGUI_STORAGE_PATH"] = str(folder)
    from nicegui import app as nicegui_app
    from nicegui import ui

    from api.pages import sockets

    secret = secrets.token_urlsafe(32)
    cookie: dict[str, Any] = {
        "secret_key": secret,
        # Cookies are not told apart by port, so two servers on one machine need two names.
        "session_cookie": f"alcove_{hashlib.sha256(str(pages.home).encode()).hexdigest()[:8]}",
        "max_age": LIFETIME_SECONDS,
        "path": PREFIX,
        "same_site": "strict",
        "https_only": pages.is_secure,
    }

    def guarded(inner: ASGIApp) -> ASGIApp:
        door = DoorMiddleware(inner, sessions, is_secure=pages.is_secure)
        return SessionMiddleware(door, **cookie)

    sign_in = guarded(sign_in_app(pages.title, pages.hint, sessions, pages.identify))
    app.router.routes += [Route(path, sign_in) for path in PATHS]
    app.router.routes.append(Route(PREFIX, guarded(RedirectResponse(f"{PREFIX}/"))))
    # Uploads have the limits of the endpoints that they are handed to, not that of this one.
    forward = RequestBodyLimitMiddleware(Forward(app, sessions), max_body_size=sys.maxsize)
    app.mount(f"{PREFIX}{API}".rstrip("/"), guarded(forward))
    pages.define(app, sessions)
    nicegui_app.user_middleware += [
        Middleware(SessionMiddleware, **cookie),
        Middleware(DoorMiddleware, sessions=sessions, is_secure=pages.is_secure),
    ]
    ui.run_with(
        app,
        mount_path=PREFIX,
        title=pages.title,
        language="en-US",
        dark=None,
        storage_secret=secret,
        # Long enough for a phone that sleeps; the socket is then asked for life every 48 seconds,
        # which is less than proxies wait for.
        reconnect_timeout=60,
        show_welcome_message=False,
    )
    nicegui_app.add_middleware(WithoutPrefixMiddleware)
    sockets.guard(sessions)
