"""Database sessions: SQLite with a write-ahead log, one writer at a time, erased pages blanked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as sqlite
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.orm import Session

BUSY_MILLISECONDS = 30_000


class Database:
    """The node's database.

    The bundled SQLite is newer than the system's: its full-text index can erase (FTS5
    `secure-delete`, SQLite 3.42).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # An error that is logged must not quote the texts that a statement carried.
        self._engine = create_engine(
            f"sqlite+pysqlite:///{path}", module=sqlite, pool_size=20, hide_parameters=True
        )
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)
        self._writer = self._engine.execution_options(alcove_begin="BEGIN IMMEDIATE")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session on one snapshot of the database."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that holds the write lock and commits at the end, durably."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def migrate(self) -> None:
        """Bring the schema to the newest revision of the node's history."""
        config = Config()
        config.set_main_option("script_location", "migrations:node")
        with self._engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        self.path.chmod(0o600)

    def truncate_log(self, seconds: float = 10.0) -> bool:
        """Write the whole log into the database file and cut the log to nothing.

        Returns False if readers kept it busy for `seconds`: what was erased may then still
        stand in the log (SQLite, PRAGMA wal_checkpoint).
        """
        deadline = time.monotonic() + seconds
        while True:
            raw = self._engine.raw_connection()
            try:
                busy = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                raw.close()
            if busy == 0:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)

    def close(self) -> None:
        self._engine.dispose()


def _configure(connection: Any, _record: object) -> None:
    # SQLAlchemy starts each transaction itself (_begin), so the driver must not.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_MILLISECONDS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("alcove_begin", "BEGIN"))
