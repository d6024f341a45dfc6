"""The node's application, served by a thread: for `alcove node serve`, and for a command alone."""

from __future__ import annotations

import socket
import threading
from typing import Self

import uvicorn

from api.node.app import create_app
from api.node.node import Node
from cli.errors import CommandError
from cli.listening import Tls, url_of, uvicorn_config

THREAD = "server"
# Loading a model cannot be interrupted; what it had begun is done again at the next start.
LOADING_GRACE_SECONDS = 2.0


class NodeServer:
    """Serves an opened node on a listening socket until the `with` block ends, then closes both."""

    def __init__(
        self,
        node: Node,
        listener: socket.socket,
        *,
        load: bool = True,
        participate: bool = False,
        pages: bool = False,
        tls: Tls | None = None,
    ) -> None:
        """`load`, `participate` and `pages`: see `api.node.app.create_app`.

        Raises:
            OSError: the certificate or its key cannot be read or do not match.
        """
        self._node = node
        self._listener = listener
        self._over = threading.Event()
        self._failure: Exception | None = None
        app = create_app(node, self._failed, load=load, participate=participate, pages=pages)
        config = uvicorn_config(app, tls, sockets=pages)
        config.load()
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
        self.url = url_of(listener, tls)

    def check(self) -> None:
        """Raise CommandError if the models could not be loaded."""
        if self._failure is not None:
            reason = str(self._failure).partition("\n")[0] or type(self._failure).__name__
            raise CommandError(f"the node cannot start: {reason}") from self._failure

    def wait(self) -> None:
        """Return when the server has ended by itself; `check` may say why."""
        self._over.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(None if self._node.models is not None else LOADING_GRACE_SECONDS)
        if not self._thread.is_alive():
            self._listener.close()
            self._node.close()

    def _run(self) -> None:
        try:
            self._server.run([self._listener])
        finally:
            self._over.set()

    def _failed(self, error: Exception) -> None:
        self._failure = error
        self._over.set()


def is_abandoned() -> bool:
    """Whether a server of this process could not be waited for, because it loads its models."""
    return any(thread.name == THREAD for thread in threading.enumerate())
