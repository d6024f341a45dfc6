"""The coordinator's folder, settings and database, in SQLite and PostgreSQL."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from api.coordinator.coordinator import Coordinator, create
from storage import staff_keys
from storage.coordinator_database import CoordinatorDatabase
from storage.coordinator_home import CoordinatorHome
from storage.coordinator_settings import CoordinatorSettings
from storage.coordinator_tables import CoordinatorBase, Role
from storage.home import HomeError
from tests.coordinators import coordinator


def settings(home: Path, database_url: str | None = None, **given: object) -> CoordinatorSettings:
    return CoordinatorSettings(home=home, database_url=database_url, **given)  # type: ignore[arg-type]


def test_the_migrations_make_the_tables_as_they_are_declared(
    tmp_path: Path, database_url: str | None
) -> None:
    database = CoordinatorDatabase.of(settings(tmp_path, database_url))
    database.migrate()
    database.migrate()
    with database.read() as session:
        context = MigrationContext.configure(
            session.connection(), opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, CoordinatorBase.metadata) == []
    database.close()


def test_a_reading_session_sees_one_snapshot_and_writes_nothing_of_a_failed_one(
    tmp_path: Path, database_url: str | None
) -> None:
    with coordinator(tmp_path / "home", database_url) as opened:
        with opened.database.read() as reader:
            before = len(staff_keys.list_all(reader))
            with opened.database.write() as writer:
                staff_keys.create(writer, "second", Role.AUDITOR)
            assert len(staff_keys.list_all(reader)) == before
        with pytest.raises(ZeroDivisionError), opened.database.write() as writer:
            staff_keys.create(writer, "third", Role.AUDITOR)
            writer.flush()
            raise ZeroDivisionError
        with opened.database.read() as reader:
            assert len(staff_keys.list_all(reader)) == before + 1


def test_foreign_keys_hold(tmp_path: Path, database_url: str | None) -> None:
    from storage.coordinator_tables import Participant

    with coordinator(tmp_path / "home", database_url) as opened:
        stray = Participant(population="nowhere", name="a", identity="b")
        with pytest.raises(DBAPIError), opened.database.write() as session:
            session.add(stray)


def test_staff_keys_hold_until_they_are_revoked(tmp_path: Path, database_url: str | None) -> None:
    with coordinator(tmp_path / "home", database_url) as opened:
        with opened.database.write() as session:
            made = staff_keys.create(session, "reader", Role.AUDITOR)
        with opened.database.write() as session:
            found = staff_keys.verify(session, made.token)
            assert found is not None and found.role is Role.AUDITOR
            assert staff_keys.verify(session, made.token[:-1]) is None
            assert staff_keys.verify(session, "alcove_nobody_nothing") is None
            assert staff_keys.revoke(session, made.key.id)
            assert not staff_keys.revoke(session, made.key.id)
            assert staff_keys.verify(session, made.token) is None
        assert made.token not in repr(made)


def test_a_coordinator_is_made_once_and_keeps_its_key(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "home")
    with pytest.raises(HomeError, match="alcove coordinator init"):
        Coordinator(chosen)
    create(chosen)
    with pytest.raises(HomeError, match="already"):
        create(chosen)
    first, second = Coordinator(chosen), Coordinator(chosen)
    assert first.identity == second.identity
    assert first.identity not in repr(first.authority.key)
    first.close()
    second.close()
    home = CoordinatorHome(chosen.home)
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    for path in (home.key, home.database):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    home.key.write_bytes(b"short")
    with pytest.raises(HomeError, match="damaged"):
        Coordinator(chosen)


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(HomeError, match="not empty"):
        create(settings(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_settings_refuse_what_is_unsafe_or_no_postgresql(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="tls_certificate"):
        settings(tmp_path, host="0.0.0.0")
    with pytest.raises(ValidationError, match="PostgreSQL"):
        settings(tmp_path, "mysql://root@localhost/x")
    url = settings(tmp_path, "postgresql://me:secret@localhost/x").database_url
    assert url is not None
    assert url.get_secret_value() == "postgresql+psycopg://me:secret@localhost/x"
    assert "secret" not in repr(url)
