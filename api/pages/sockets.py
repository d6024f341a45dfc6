"""Whose page a socket may speak for.

NiceGUI takes whoever names an open page for its reader, and the names are in addresses, which
proxies log. Here the socket's session must be open, and must be the one that opened the page.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs
from weakref import WeakSet

from nicegui import core
from nicegui.client import Client
from socketio.exceptions import ConnectionRefusedError as SocketRefusedError

from api.pages.door import SESSION, SIGN_IN
from api.pages.sessions import Sessions

Handler = Callable[..., Any]

_ABOUT_A_PAGE = ("handshake", "event", "javascript_response", "ack")


def guard(sessions: Sessions) -> None:
    """Put the check in front of NiceGUI's handlers, and accept no lines for the server's log."""
    sio = core.sio
    # The pages' own policy is the door's; a header that admits every origin helps only others.
    sio.eio.cors_allowed_origins = []
    sent_away: WeakSet[Client] = WeakSet()

    def owned(sid: str, message: Any) -> Client | None:
        """The page that a message names, if the socket's session opened it and is open."""
        named = message.get("client_id") if isinstance(message, dict) else None
        page = Client.instances.get(named) if isinstance(named, str) else None
        # None once the socket is closed, with messages of it still to be read.
        environ = sio.get_environ(sid)
        if page is None or environ is None:
            return None
        session_id = environ["asgi.scope"]["session"].get(SESSION)
        if page.request.session.get(SESSION) != session_id:
            return None
        if sessions.find(session_id) is None:
            # Whoever still looks at it learns why nothing happens; a second time would undo it.
            if page not in sent_away:
                sent_away.add(page)
                page.open(SIGN_IN)
            return None
        return page

    def guarded(handler: Handler) -> Handler:
        async def handle(sid: str, message: Any) -> Any:
            if owned(sid, message) is None:
                return False
            result = handler(sid, message)
            return await result if inspect.isawaitable(result) else result

        return handle

    handlers: dict[str, Handler] = sio.handlers["/"]
    connect = handlers["connect"]

    async def connected(sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        query = {name: found[0] for name, found in parse_qs(environ["QUERY_STRING"]).items()}
        if "client_id" in query and owned(sid, query) is None:
            # NiceGUI's own words, at which the browser loads the page anew.
            raise SocketRefusedError("Implicit handshake failed")
        await connect(sid, environ, auth)

    sio.on("connect", connected)
    for name in _ABOUT_A_PAGE:
        sio.on(name, guarded(handlers[name]))
    del handlers["log"]
