"""A real browser, and real servers as processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.pages.admin import Open
from tests.pages.browser import Visit, chromium, visit
from tests.pages.coordinators import ServedCoordinator, served_coordinator
from tests.pages.nodes import ServedNode, served_node

NewVisit = Callable[..., AbstractContextManager[Visit]]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNode]:
    def prepare(home: Path) -> None:
        (home / "settings.toml").write_text("answer_tokens = 40\nmax_file_bytes = 100_000\n")

    with served_node(tmp_path_factory.mktemp("node") / "served", prepare) as served:
        yield served


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


@pytest.fixture
def open_page(visit_coordinator: NewVisit, coordinator: ServedCoordinator) -> Open:
    """Signs an admin, or whose key is given, in and opens a page."""

    @contextmanager
    def open_(path: str, key: str = "", **options: Any) -> Iterator[Page]:
        with visit_coordinator(**options) as visit:
            visit.sign_in(key or coordinator.key)
            visit.open(path)
            yield visit.page
            assert visit.page.evaluate("window.hurt") is None

    return open_
