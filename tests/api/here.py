"""Nodes served by the test's own process, for tests that reach into them."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from api.node.node import Node, create
from cli.listening import listen
from cli.server import NodeServer
from storage.settings import NodeSettings

WAIT_SECONDS = 120


@dataclass(frozen=True)
class Here:
    """A node and its first key."""

    url: str
    key: str
    node: Node

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=WAIT_SECONDS)


@contextmanager
def serving_here(home: Path, *, ready: bool = True, **settings: Any) -> Iterator[Here]:
    """Serve a new node; `ready`: once its models are loaded."""
    chosen = NodeSettings(home=home, **settings)
    key = create(chosen).token
    node = Node(chosen)
    with NodeServer(node, listen("127.0.0.1", 0)) as server:
        if ready:
            until(lambda: server.check() or node.models)
        yield Here(server.url, key, node)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class SilentUpstream(socketserver.ThreadingTCPServer):
    """A generator that takes a request and never sends a byte."""

    def __init__(self) -> None:
        self.asked, self.hung_up = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), _Silent)

    @property
    def settings(self) -> dict[str, Any]:
        """Of a node that asks it."""
        return {"generator": "silent", "upstream_url": f"http://127.0.0.1:{self.server_address[1]}"}


class _Silent(socketserver.BaseRequestHandler):
    server: SilentUpstream

    def handle(self) -> None:
        while self.request.recv(65_536):
            self.server.asked.set()
        self.server.hung_up.set()


@contextmanager
def silent_upstream() -> Iterator[SilentUpstream]:
    with SilentUpstream() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
