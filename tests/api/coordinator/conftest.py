"""A real coordinator on loopback, with a key for each role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from api.coordinator.coordinator import Coordinator
from storage import staff_keys
from storage.coordinator_tables import Role
from tests.coordinators import coordinator, serving


@dataclass(frozen=True)
class Staffed:
    """A served coordinator and clients of its staff."""

    coordinator: Coordinator
    url: str
    admin: httpx.Client
    auditor: httpx.Client


def client_of(opened: Coordinator, url: str, role: Role) -> httpx.Client:
    with opened.database.write() as session:
        token = staff_keys.create(session, role.value, role).token
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)


@pytest.fixture(scope="module")
def staffed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staffed]:
    """One for all tests of a file: each uses names of its own."""
    with ExitStack() as stack:
        opened = stack.enter_context(coordinator(tmp_path_factory.mktemp("coordinator") / "home"))
        url = stack.enter_context(serving(opened))
        admin = stack.enter_context(client_of(opened, url, Role.ADMIN))
        auditor = stack.enter_context(client_of(opened, url, Role.AUDITOR))
        yield Staffed(opened, url, admin, auditor)


@pytest.fixture
def new_coordinator(tmp_path: Path, database_url: str | None) -> Iterator[Callable[[], Staffed]]:
    """Makes a coordinator on SQLite or PostgreSQL."""
    with ExitStack() as stack:

        def make() -> Staffed:
            opened = stack.enter_context(coordinator(tmp_path / "home", database_url))
            url = stack.enter_context(serving(opened))
            admin = stack.enter_context(client_of(opened, url, Role.ADMIN))
            auditor = stack.enter_context(client_of(opened, url, Role.AUDITOR))
            return Staffed(opened, url, admin, auditor)

        yield make
