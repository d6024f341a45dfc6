"""Sessions, the log, compaction and the schema of the node's database."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as sqlite
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import delete, event, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from retrieval import lexical
from storage.database import (
    Database,
    among,
    create_private,
    may_pass,
    note_deletion,
    noted_deletions,
    settle_deletions,
    sqlite_engine,
    upgrade,
)
from storage.example_tables import LabelledQuestion, QuestionOrigin
from storage.node_tables import Assistant, Base, Document, Key, Scope
from tests.nodes import add_assistant, files_holding, open_database

CONSONANTS = "bcdfghjklmnpqrstvwxz"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database(tmp_path / "node.db") as opened:
        yield opened


def document(assistant_id: int, name: str) -> Document:
    return Document(
        id=name, assistant_id=assistant_id, name=name, title=name, media_type="text/plain",
        content_hash=name.encode(), size=1,
    )  # fmt: skip


def add_document(database: Database, assistant_id: int, name: str) -> None:
    with database.write() as session:
        session.add(document(assistant_id, name))


def names(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(Assistant.name)))


class TestSessions:
    def test_a_read_stays_on_its_snapshot(self, database: Database) -> None:
        with database.read() as session:
            assert session.scalar(select(func.count(Assistant.id))) == 0
            add_assistant(database, "new")
            assert session.scalar(select(func.count(Assistant.id))) == 0
        assert names(database) == {"new"}

    def test_a_write_that_fails_leaves_nothing(self, database: Database) -> None:
        with pytest.raises(ZeroDivisionError), database.write() as session:
            session.add(Assistant(name="half", embedder="e"))
            session.flush()
            raise ZeroDivisionError
        assert names(database) == set()

    def test_writers_take_turns(self, database: Database) -> None:
        def increment() -> None:
            for _ in range(25):
                with database.write() as session:
                    settle = noted_deletions(session)
                    session.execute(text(f"PRAGMA user_version = {settle + 1}"))

        threads = [threading.Thread(target=increment) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with database.read() as session:
            assert noted_deletions(session) == 100

    def test_foreign_keys_hold(self, database: Database) -> None:
        with pytest.raises(IntegrityError):
            add_document(database, 17, "of nobody")

    def test_an_error_does_not_quote_what_a_statement_carried(self, database: Database) -> None:
        add_document(database, add_assistant(database, "a"), "confidential")
        with pytest.raises(IntegrityError) as caught:
            add_document(database, 1, "confidential")
        assert "confidential" not in str(caught.value)

    def test_what_one_process_committed_another_finds(
        self, database: Database, tmp_path: Path
    ) -> None:
        add_assistant(database, "kept")
        with sqlite.connect(str(tmp_path / "node.db")) as other:
            assert other.execute("SELECT name FROM assistant").fetchall() == [("kept",)]


class TestLog:
    def test_it_is_cut_to_nothing(self, database: Database) -> None:
        add_assistant(database, "a")
        log = database.path.with_name("node.db-wal")
        assert log.stat().st_size > 0
        assert database.truncate_log()
        assert log.stat().st_size == 0

    def test_a_reader_prevents_it_and_the_old_text_stays_meanwhile(
        self, database: Database, tmp_path: Path
    ) -> None:
        assistant_id = add_assistant(database, "a")
        add_document(database, assistant_id, "quickbrownfox")
        with database.read() as session:
            assert session.scalar(select(func.count(Document.id))) == 1
            with database.write() as writer:
                writer.execute(text("DELETE FROM document"))
            assert not database.truncate_log(seconds=0.1)
            assert files_holding(tmp_path, [b"quickbrownfox"])
        assert database.truncate_log()
        assert not files_holding(tmp_path, [b"quickbrownfox"])

    def test_writers_go_on_while_it_waits_for_a_reader(self, database: Database) -> None:
        add_assistant(database, "first")
        cut: list[bool] = []
        waiting = threading.Thread(target=lambda: cut.append(database.truncate_log(seconds=60)))
        with database.read() as session:
            session.scalars(select(Assistant.name)).all()
            add_assistant(database, "second")
            waiting.start()
            for number in range(20):
                add_assistant(database, f"during {number}")
            assert waiting.is_alive()
        waiting.join()
        assert cut == [True]
        assert len(names(database)) == 22


class TestCompaction:
    @pytest.mark.parametrize("seed", range(3))
    def test_nothing_of_deleted_rows_stays_in_any_file(
        self, database: Database, tmp_path: Path, seed: int
    ) -> None:
        rng = random.Random(seed)
        names = ["".join(rng.choices(CONSONANTS, k=rng.randint(12, 200))) for _ in range(600)]
        assistant_id = add_assistant(database, "a")
        with database.write() as session:
            session.add_all(document(assistant_id, name) for name in names)
        rng.shuffle(names)
        dead, live = names[:520], names[520:]
        # SQLite moves rows between pages as they empty, and leaves copies behind.
        for start in range(0, len(dead), 20):
            with database.write() as session:
                gone = Document.id.in_(dead[start : start + 20])
                session.execute(delete(Document).where(gone))
        database.compact()
        assert database.truncate_log()
        pieces = {
            name[start : start + 12].encode() for name in dead for start in (0, len(name) - 12)
        }
        assert not files_holding(tmp_path, pieces)
        kept = {name.encode() for name in live}
        assert {needle for _, needle in files_holding(tmp_path, kept)} == kept

    def test_rows_ids_and_modes_survive(self, database: Database) -> None:
        for name in ("first", "second"):
            add_assistant(database, name)
        with database.write() as session:
            lexical.drop(session, 2)
            session.delete(session.get_one(Assistant, 2))
            note_deletion(session)
        database.compact()
        assert add_assistant(database, "third") == 3  # never an id that was used before
        with database.read() as session:
            assert noted_deletions(session) == 1
            modes = [
                session.execute(text(f"PRAGMA {name}")).scalar_one()
                for name in ("journal_mode", "secure_delete", "synchronous", "foreign_keys")
            ]
            assert session.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
        assert modes == ["wal", 1, 2, 1]
        assert names(database) == {"first", "third"}

    def test_what_is_written_beside_it_is_kept(self, database: Database) -> None:
        writing = threading.Event()

        def write() -> None:
            for number in range(30):
                add_assistant(database, f"assistant {number}")
                writing.set()

        writer = threading.Thread(target=write)
        writer.start()
        writing.wait()
        while writer.is_alive():
            database.compact()
        writer.join()
        assert names(database) == {f"assistant {number}" for number in range(30)}

    def test_a_reader_keeps_its_snapshot_beside_it(self, database: Database) -> None:
        add_assistant(database, "a")
        with database.read() as session:
            assert session.scalar(select(func.count(Assistant.id))) == 1
            with database.write() as writer:
                lexical.drop(writer, 1)
                writer.execute(text("DELETE FROM assistant"))
            database.compact()
            assert session.scalars(select(Assistant.name)).all() == ["a"]
        assert names(database) == set()

    def test_its_copy_does_not_stay(self, tmp_path: Path) -> None:
        path = tmp_path / "node.db"
        left_by_a_kill = tmp_path / "node.db.compact"
        left_by_a_kill.write_bytes(b"half a copy")
        with open_database(path) as database:
            assert not left_by_a_kill.exists()
            database.compact()
            assert not left_by_a_kill.exists()

    def test_one_that_fails_changes_nothing(self, database: Database, tmp_path: Path) -> None:
        add_assistant(database, "a")
        (tmp_path / "node.db.compact").mkdir()
        with pytest.raises(OSError, match="compact"):
            database.compact()
        (tmp_path / "node.db.compact").rmdir()
        add_assistant(database, "b")
        assert names(database) == {"a", "b"}


class TestNotesOfDeletions:
    def test_they_stand_and_fall_with_their_transaction(self, database: Database) -> None:
        with pytest.raises(ZeroDivisionError), database.write() as session:
            note_deletion(session)
            raise ZeroDivisionError
        with database.read() as session:
            assert noted_deletions(session) == 0

    def test_settling_leaves_those_that_came_since(self, database: Database) -> None:
        with database.write() as session:
            note_deletion(session)
            noted = noted_deletions(session)
        with database.write() as session:
            note_deletion(session)
            settle_deletions(session, noted)
            assert noted_deletions(session) == 2
            settle_deletions(session, 2)
            assert noted_deletions(session) == 0


class TestErrorsThatMayPass:
    def test_a_full_disk(self, database: Database) -> None:
        # SQLite's own limit on pages gives the very error that a full disk gives.
        event.listen(
            database._engine, "connect", lambda c, _: c.execute("PRAGMA max_page_count = 1")
        )
        database.close()
        with pytest.raises(OperationalError, match="full") as caught:
            for number in range(10_000):
                add_assistant(database, f"{number}")
        assert may_pass(caught.value)

    def test_a_locked_database(self, database: Database, tmp_path: Path) -> None:
        event.listen(database._engine, "connect", lambda c, _: c.execute("PRAGMA busy_timeout=0"))
        database.close()
        other = sqlite.connect(str(tmp_path / "node.db"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked") as caught:
            add_assistant(database, "a")
        other.close()
        assert may_pass(caught.value)
        assert may_pass(OSError("no space left on device"))

    def test_a_statement_that_is_wrong_will_not_pass(self, database: Database) -> None:
        with pytest.raises(DBAPIError) as caught, database.read() as session:
            session.execute(text("SELECT * FROM nowhere"))
        assert not may_pass(caught.value)
        assert not may_pass(ValueError())


def _row(connection: Any, table: str) -> dict[str, Any]:
    (row,) = connection.execute(f"SELECT * FROM {table}").fetchall()
    return dict(row)


def test_a_row_is_found_among_more_values_than_a_statement_has_parameters(
    database: Database,
) -> None:
    first, second = (add_assistant(database, name) for name in ("a", "b"))
    with database.read() as session:
        for column, values in (
            (Assistant.id, {first, *range(10**6, 10**6 + 300_000)}),
            (Assistant.name, {"a", *map(str, range(300_000))}),
        ):
            assert session.scalars(select(Assistant.id).where(among(column, values))).all() == [
                first
            ]
        assert session.scalars(select(Assistant.id).where(among(Assistant.id, ()))).all() == []
    assert first != second


class TestSchema:
    def test_the_history_gives_the_tables_that_the_code_means(self, database: Database) -> None:
        add_assistant(database, "a")
        with database._engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "include_object": lambda _object, name, *_: not name.startswith("lexical_"),
                    "compare_type": True,
                },
            )
            assert compare_metadata(context, Base.metadata) == []

    def test_going_through_it_again_changes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "node.db"
        with open_database(path) as database:
            add_assistant(database, "a")
        with open_database(path) as database:
            assert names(database) == {"a"}

    def test_what_was_stored_before_the_personal_tables_is_kept(self, tmp_path: Path) -> None:
        """Rows as revision 0002 had them, in each table that revision 0003 alters."""
        path = tmp_path / "node.db"
        create_private(path)
        tables = ("assistant", "key", "labelled_question", "relevant_passage")
        with closing(sqlite.connect(str(path))) as connection:
            engine = sqlite_engine(path)
            with engine.connect() as opened:
                upgrade(opened, "node", "0002")
                opened.commit()
            engine.dispose()
            connection.executescript("""
                PRAGMA foreign_keys = ON;
                INSERT INTO assistant (id, name, description, created_at, embedder)
                    VALUES (7, 'old', 'd', 1, 'e');
                INSERT INTO key (id, secret_hash, label, scope, every_assistant, created_at)
                    VALUES ('k', x'00', 'l', 'user', 0, 1);
                INSERT INTO key_assistant (key_id, assistant_id) VALUES ('k', 7);
                INSERT INTO document (id, assistant_id, name, title, media_type, attributes,
                                      content_hash, size, version, created_at, updated_at)
                    VALUES ('doc', 7, 'n', 't', 'm', '{}', x'00', 1, 1, 1, 1);
                INSERT INTO labelled_question (id, assistant_id, text, answer, created_at)
                    VALUES (3, 7, 'q?', 'a', 1);
                INSERT INTO relevant_passage (id, question_id, document_id, passage)
                    VALUES (5, 3, 'doc', 'doc.1.0');
            """)
            connection.row_factory = sqlite.Row
            before = {name: _row(connection, name) for name in tables}
        with open_database(path) as database, database.read() as session:
            assistant = session.get_one(Assistant, 7)
            assert (assistant.instructions, assistant.conversation_days) == ("", None)
            key = session.get_one(Key, "k")
            assert (key.instructions, key.feedback_is_approved) == ("", False)
            assert [one.name for one in key.assistants] == ["old"]
            question = session.get_one(LabelledQuestion, 3)
            assert question.origin is QuestionOrigin.UPLOAD
            assert [one.is_relevant for one in question.relevant] == [True]
        with closing(sqlite.connect(str(path))) as connection:
            connection.row_factory = sqlite.Row
            for name, row in before.items():
                assert row.items() <= _row(connection, name).items()

    def test_values_of_enumerations_are_their_words(self, database: Database) -> None:
        with database.write() as session:
            session.execute(
                text(
                    "INSERT INTO key (id, secret_hash, label, scope, every_assistant, created_at) "
                    "VALUES ('k', x'00', '', 'owner', 1, 0)"
                )
            )
            found = session.execute(text("SELECT id, scope FROM key")).one()
        assert tuple(found) == ("k", Scope.OWNER.value)
