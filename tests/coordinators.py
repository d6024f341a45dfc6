"""Coordinators opened in a test's own process, on SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api.coordinator.coordinator import Coordinator, create
from storage.coordinator_settings import CoordinatorSettings


@contextmanager
def coordinator(home: Path, database_url: str | None = None) -> Iterator[Coordinator]:
    """A fresh coordinator in `home`."""
    settings = CoordinatorSettings(home=home, database_url=database_url)
    create(settings)
    opened = Coordinator(settings)
    try:
        yield opened
    finally:
        opened.close()
