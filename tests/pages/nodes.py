"""Served nodes, with an owner who prepares what a test looks at."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.served import alcove_json, serving


class ServedNode:
    """A node, its owner's key, and an HTTP client with it for what a test prepares."""

    def __init__(self, home: Path, url: str, key: str) -> None:
        self.home = home
        self.url = url
        self.key = key
        self.owner = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120
        )

    def new_key(self, *, scope: str = "user", assistants: list[str] | None = None) -> str:
        made = self.owner.post(
            "/v1/keys", json={"label": "test", "scope": scope, "assistants": assistants}
        )
        token: str = made.raise_for_status().json()["key"]
        return token


@contextmanager
def served_node(
    folder: Path, prepare: Callable[[Path], None], errors: int = 0
) -> Iterator[ServedNode]:
    """A new node; `prepare` is called with its home before it is served, and at its end it must
    have logged just as many errors as expected."""
    folder.mkdir()
    home = folder / "home"
    key = alcove_json("node", "init", "--home", str(home))["key"]
    prepare(home)
    with serving(home) as (_, url):
        yield ServedNode(home, url, key)
    log = (folder / "server.log").read_text()
    shutil.rmtree(home)
    # What a page does wrong after somebody pressed a button is seen nowhere else.
    assert log.count('"level": "error"') == errors, log
