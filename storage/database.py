"""Database sessions: SQLite with a write-ahead log, one writer at a time, erased bytes blanked."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as sqlite
from alembic import command
from alembic.config import Config
from sqlalchemy import ColumnElement, Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import InstrumentedAttribute, Session

# Result codes of SQLite that speak of the moment, not of the statement.
PASSING = frozenset(
    {
        sqlite.SQLITE_BUSY,
        sqlite.SQLITE_LOCKED,
        sqlite.SQLITE_NOMEM,
        sqlite.SQLITE_READONLY,
        sqlite.SQLITE_IOERR,
        sqlite.SQLITE_FULL,
        sqlite.SQLITE_CANTOPEN,
    }
)
BUSY_MILLISECONDS = 30_000
CHECKPOINT_RETRY_SECONDS = 0.02

DELETION = "deletion"
"""Marks the `info` of a session that has noted one."""

WRITING = {"alcove_begin": "BEGIN IMMEDIATE"}
"""Execution options of a `sqlite_engine` whose transactions take the write lock at once."""

SINGLE = {"alcove_begin": ""}
"""Options of a `sqlite_engine` for single statements, each of which sees a snapshot of its own."""

CONNECTIONS = 48
"""Kept open, for the 40 threads that answer and some more; opening one takes a millisecond."""


def sqlite_engine(path: Path) -> Engine:
    """Connections to the bundled SQLite, set up as every database here is; none is opened yet."""
    # An error that is logged must not quote the texts that a statement carried.
    engine = create_engine(
        f"sqlite+pysqlite:///{path}", module=sqlite, pool_size=CONNECTIONS, hide_parameters=True
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


class Database:
    """The node's database; one process opens it, with one of these.

    The bundled SQLite is newer than the system's: its full-text index can erase (FTS5
    `secure-delete`, SQLite 3.42).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = sqlite_engine(path)
        self._writer = self._engine.execution_options(**WRITING)
        # Nothing may be written beside `compact`; and SQLite's own lock is polled, this one not.
        self._writing = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def on_deletion(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each transaction that has noted a deletion, in its thread."""
        self._listeners.append(listener)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session on one snapshot of the database."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that holds the write lock and commits at the end, durably.

        A thread that holds one must not ask for another.
        """
        with (
            self._writing,
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session
        if session.info.get(DELETION):
            for listener in self._listeners:
                listener()

    def migrate(self) -> None:
        """Make the file, or bring its schema to the newest revision; to be called first."""
        create_private(self.path)
        self._copy.unlink(missing_ok=True)
        with self._engine.connect() as connection:
            upgrade(connection, "node")
            connection.commit()

    def compact(self) -> None:
        """Write every row anew, so that no page holds anything but live rows.

        `secure_delete` blanks a row where it stands, but not the copy that stays in the unused
        part of a page when SQLite moves rows to another one. VACUUM alone would do, but this
        SQLite keeps the whole copy in memory (SQLITE_TEMP_STORE=3); here it is a file.
        """
        with self._writing, self._raw() as connection:
            try:
                os.close(os.open(self._copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
                connection.execute("VACUUM INTO ?", (str(self._copy),))
                with closing(sqlite.connect(str(self._copy))) as copy:
                    copy.backup(connection)
            finally:
                self._copy.unlink(missing_ok=True)

    def truncate_log(self, seconds: float = 10.0) -> bool:
        """Write the whole log into the database file and cut the log to nothing.

        Returns False if readers kept it busy for `seconds`: what was erased may then still
        stand in the log (SQLite, PRAGMA wal_checkpoint).
        """
        deadline = time.monotonic() + seconds
        with self._raw() as connection:
            # While SQLite waits for readers it holds writers up, so the waiting is done here.
            connection.execute("PRAGMA busy_timeout=0")
            try:
                while _is_busy(connection):
                    if time.monotonic() > deadline:
                        return False
                    time.sleep(CHECKPOINT_RETRY_SECONDS)
            finally:
                connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        return True

    def close(self) -> None:
        self._engine.dispose()

    @property
    def _copy(self) -> Path:
        """Where `compact` writes; a stop may leave it behind."""
        return self.path.with_name(self.path.name + ".compact")

    @contextmanager
    def _raw(self) -> Iterator[Any]:
        """The driver's own connection, in no transaction."""
        pooled = self._engine.raw_connection()
        try:
            yield pooled.driver_connection
        finally:
            pooled.close()


def create_private(path: Path) -> None:
    """Make the file of a database if it is not there, mode 0600.

    SQLite gives its log and its shared memory the permissions of the database file.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)


def upgrade(connection: Connection, history: str, revision: str = "head") -> None:
    """Bring the schema to a revision of `migrations/<history>`, the newest; the caller commits."""
    config = Config()
    config.set_main_option("script_location", f"migrations:{history}")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def among(column: InstrumentedAttribute[Any], values: Collection[str | int]) -> ColumnElement[bool]:
    """Whether the column is one of any number of values, of which SQLite takes only so many as
    parameters of their own."""
    each = func.json_each(json.dumps(list(values))).table_valued("value")
    return column.in_(select(each.c.value))


def note_deletion(session: Session) -> None:
    """Note, in the transaction that deletes rows, that their bytes are still to be blanked."""
    session.execute(text(f"PRAGMA user_version = {noted_deletions(session) + 1}"))
    session.info[DELETION] = True


def noted_deletions(session: Session) -> int:
    """How many transactions deleted rows whose bytes may still stand in the files."""
    return int(session.execute(text("PRAGMA user_version")).scalar_one())


def settle_deletions(session: Session, noted: int) -> None:
    """Say that the bytes of so many deletions are blanked; newer ones keep their note."""
    if noted_deletions(session) == noted:
        session.execute(text("PRAGMA user_version = 0"))


def may_pass(error: Exception) -> bool:
    """Whether the same may succeed later: a full disk, say, or a database that is busy."""
    if isinstance(error, OperationalError):
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in PASSING
    return isinstance(error, OSError)


def _is_busy(connection: Any) -> bool:
    """Try to cut the log; whether a reader or a writer was in the way."""
    return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0])


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
    begin = connection.get_execution_options().get("alcove_begin", "BEGIN")
    if begin:
        connection.exec_driver_sql(begin)
