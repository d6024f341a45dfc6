"""What is slow to load and shared by tests of several packages."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from retrieval.embedding import Embedder
from storage import niced_process
from tests.forked import Forked
from tests.postgresql import postgresql

STAGES = (("faults", "long"), ("fuzz",), ("pages",))
"""Markers of the tests that `make test-faults`, `test-fuzz` and `test-pages` run."""

# A busy machine is no failure: how long an example takes is never asserted.
settings.register_profile("alcove", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("alcove")


def pytest_configure() -> None:
    # A shell's background jobs ignore Ctrl-C, and would pass that on to the servers under test.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Training processes that a test's own process starts; those of served nodes start from nothing.
    niced_process.Popen = Forked  # type: ignore[misc]
    # Workers share the cores; OpenMP's threads would wait for each other by spinning.
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_unconfigure() -> None:
    # As in `cli.main`.
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that two stages select would be run twice; one without a marker is in `make test`."""
    for item in items:
        own = [stage for stage in STAGES if any(map(item.get_closest_marker, stage))]
        if len(own) > 1:
            raise pytest.UsageError(f"{item.nodeid} is in two stages: {own}")


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The packaged model."""
    return Embedder()


@pytest.fixture(scope="session")
def new_postgresql() -> Iterator[Callable[[], str]]:
    """Makes a database in a real PostgreSQL server; returns its address."""
    with postgresql() as fresh:
        yield fresh


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """What a coordinator's setting of this name may be: each test runs on both."""
    if request.param == "sqlite":
        return None
    fresh: Callable[[], str] = request.getfixturevalue("new_postgresql")
    return fresh()
