"""A real browser, and real servers as processes of their own."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from tests.pages.browser import Visit, chromium, visit
from tests.pages.coordinators import ServedCoordinator, served_coordinator
from tests.served import alcove_json, start_node

NewVisit = Callable[..., AbstractContextManager[Visit]]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


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


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNode]:
    home = tmp_path_factory.mktemp("node") / "home"
    key = alcove_json("node", "init", "--home", str(home))["key"]
    (home / "settings.toml").write_text("answer_tokens = 40\nmax_file_bytes = 100_000\n")
    process, url = start_node(home)
    try:
        yield ServedNode(home, url, key)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        shutil.rmtree(home)


@pytest.fixture
def visit_node(browser: Browser, node: ServedNode) -> NewVisit:
    """Opens a window on the node: `with visit_node(size=NARROW) as visit`."""
    return partial(visit, browser, node.url)


@pytest.fixture(scope="session")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedCoordinator]:
    with served_coordinator(tmp_path_factory.mktemp("coordinator")) as served:
        yield served


@pytest.fixture
def visit_coordinator(browser: Browser, coordinator: ServedCoordinator) -> NewVisit:
    """Opens a window on the coordinator: `with visit_coordinator(size=NARROW) as visit`."""
    return partial(visit, browser, coordinator.url)
