"""The coordinator's database sessions, in SQLite or PostgreSQL; several processes may share one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.orm import Session

from storage.coordinator_home import CoordinatorHome
from storage.coordinator_settings import CoordinatorSettings
from storage.database import SINGLE, WRITING, create_private, sqlite_engine, upgrade

MIGRATION_LOCK = 0x414C434F
"""PostgreSQL's advisory lock while a worker brings the schema up to date."""


GIVE_UP = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""To libpq: a machine that is gone says nothing, and the system waits hours for it."""


class CoordinatorDatabase:
    """Sessions on a SQLite file or on a PostgreSQL; the same rules hold on both.

    A reading session sees one snapshot. A writing session commits durably at its end or changes
    nothing. SQLite has one writer at a time. PostgreSQL has many: who decides by what it has read
    locks those rows (`with_for_update`, which SQLite needs not and ignores) or relies on a key.
    """

    def __init__(self, target: Path | str) -> None:
        """Use a SQLite file (a path) or a PostgreSQL ("postgresql+psycopg://...")."""
        self._path = target if isinstance(target, Path) else None
        # Threads of one process queue here; SQLite's own lock, between processes, is polled.
        self._writing = threading.Lock()
        if isinstance(target, Path):
            self._engine = sqlite_engine(target)
            self._reader = self._engine
            self._writer = self._engine.execution_options(**WRITING)
            self._looker = self._engine.execution_options(**SINGLE)
        else:
            self._engine = create_engine(
                target,
                pool_size=20,
                max_overflow=20,
                pool_pre_ping=True,
                hide_parameters=True,
                connect_args=GIVE_UP,
            )
            self._writer = self._engine.execution_options(isolation_level="READ COMMITTED")
            self._reader = self._engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            self._looker = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @staticmethod
    def of(settings: CoordinatorSettings) -> CoordinatorDatabase:
        """The database that the settings name."""
        if settings.database_url is not None:
            return CoordinatorDatabase(settings.database_url.get_secret_value())
        return CoordinatorDatabase(CoordinatorHome(settings.home).database)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session on one snapshot of the database."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """A connection for single statements, which every request makes: no transaction around
        them and no objects, at a third of what `read` costs."""
        with self._looker.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits at the end, durably. A thread holds one at a time."""
        if self._path is None:
            with Session(self._writer, expire_on_commit=False) as session, session.begin():
                yield session
            return
        with (
            self._writing,
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def migrate(self) -> None:
        """Make the tables, or bring them to the newest revision; workers may all do it at once."""
        if self._path is not None:
            create_private(self._path)
        with self._writer.connect() as connection, connection.begin():
            if self._path is None:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            upgrade(connection, "coordinator")

    def close(self) -> None:
        self._engine.dispose()
