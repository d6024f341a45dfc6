"""What is slow to load and shared by tests of several packages."""

from __future__ import annotations

import os

import pytest

from retrieval.embedding import Embedder


def pytest_configure() -> None:
    # Workers share the cores; OpenMP's threads would wait for each other by spinning.
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The packaged model."""
    return Embedder()
