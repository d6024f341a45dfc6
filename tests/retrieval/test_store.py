"""Rows, lexical index and dense index of an assistant always say the same."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import select

from retrieval import documents, lexical
from retrieval.embedding import Vectors
from retrieval.store import AssistantStore, Change, DuplicateContentError
from storage.database import Database
from storage.node_tables import Chunk, Document
from tests.nodes import add_assistant, new_document, open_database, open_store
from tests.retrieval.stores import put, vectors

WORDS = ("alpha", "beta", "gamma", "delta")
EXTERNAL_IDS = (None, "x", "y", "z")


def chunk_ids(database: Database, assistant_id: int) -> set[int]:
    with database.read() as session:
        return set(session.scalars(select(Chunk.id).where(Chunk.assistant_id == assistant_id)))


@dataclass
class Expected:
    """A document as the oracle remembers it."""

    external_id: str | None
    texts: tuple[str, ...]
    vectors: Vectors
    version: int


class StoreAgainstDictionary(RuleBasedStateMachine):
    """Any sequence of changes, stops and failures; the oracle is a dictionary."""

    database: Database
    folder: Path
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        name = f"assistant {next(self.numbers)}"
        self.assistant_id = add_assistant(self.database, name)
        self.store = self.open()
        self.documents: dict[str, Expected] = {}
        self.seed = 0

    def open(self) -> AssistantStore:
        return open_store(self.database, self.assistant_id, self.folder / str(self.assistant_id))

    texts = st.lists(st.sampled_from(WORDS), min_size=0, max_size=3).map(tuple)

    @rule(texts=texts, external_id=st.sampled_from(EXTERNAL_IDS))
    def put(self, texts: tuple[str, ...], external_id: str | None) -> None:
        self.seed += 1
        fresh = vectors(len(texts), self.seed)
        same = next((d for d, one in self.documents.items() if one.texts == texts), None)
        holder = next(
            (
                d
                for d, one in self.documents.items()
                if external_id is not None and one.external_id == external_id
            ),
            None,
        )
        new = new_document(texts, external_id)
        if same is not None:
            known = self.documents[same]
            if external_id is not None and known.external_id != external_id:
                if known.external_id is not None or holder is not None:
                    with pytest.raises(DuplicateContentError) as caught, self.store.changing() as c:
                        c.put(new, fresh)
                    assert caught.value.document_id == same
                    return
                known.external_id = external_id
            expected = (same, False)
        with self.store.changing() as change:
            stored = change.put(new, fresh)
        if same is None:
            version = 1 if holder is None else self.documents[holder].version + 1
            expected = (holder or stored.document_id, True)
            self.documents[stored.document_id] = Expected(external_id, texts, fresh, version)
        assert (stored.document_id, stored.fresh) == expected

    @precondition(lambda self: self.documents)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        document_id = data.draw(st.sampled_from(sorted(self.documents)))
        with self.store.changing() as change:
            assert change.remove(document_id) == len(self.documents.pop(document_id).texts)

    @rule()
    def remove_what_is_not_there(self) -> None:
        with self.store.changing() as change:
            assert change.remove("doc-0000000000000000") == 0

    @rule()
    def several_changes_of_which_the_last_fails(self) -> None:
        with pytest.raises(ZeroDivisionError), self.store.changing() as change:
            for document_id in self.documents:
                change.remove(document_id)
            change.put(new_document(("epsilon",), "x"), vectors(1))
            raise ZeroDivisionError

    @rule()
    def put_and_remove_in_one_change(self) -> None:
        with self.store.changing() as change:
            stored = change.put(new_document(("zeta", "zeta")), vectors(2))
            assert change.remove(stored.document_id) == 2

    @rule()
    def snapshot(self) -> None:
        self.store.snapshot()

    @rule()
    def forget_snapshots(self) -> None:
        self.store.forget_snapshots()

    @rule()
    def stop_and_start(self) -> None:
        self.store = self.open()

    @precondition(lambda self: self.documents)
    @rule(data=st.data())
    def stop_between_the_database_and_the_index(self, data: st.DataObject) -> None:
        """A change that another object on the same files makes: this index has not followed."""
        document_id = data.draw(st.sampled_from(sorted(self.documents)))
        del self.documents[document_id]
        self.seed += 1
        fresh = vectors(1, self.seed)
        with self.database.write() as session:
            change = Change(session, self.assistant_id)
            change.remove(document_id)
            text = f"eta{self.seed}"
            stored = change.put(new_document((text,)), fresh)
        self.documents[stored.document_id] = Expected(None, (text,), fresh, 1)
        self.store = self.open()

    @rule(texts=texts)
    def index_that_cannot_take_it(self, texts: tuple[str, ...]) -> None:
        if not texts or any(one.texts == texts for one in self.documents.values()):
            return
        self.seed += 1
        fresh = vectors(len(texts), self.seed)
        add = self.store.index.add

        def fail_once(*_: object) -> None:
            self.store.index.add = add  # type: ignore[method-assign]
            raise MemoryError

        self.store.index.add = fail_once  # type: ignore[method-assign]
        with pytest.raises(MemoryError), self.store.changing() as change:
            change.put(new_document(texts), fresh)

    @invariant()
    def rows_are_those_of_the_dictionary(self) -> None:
        with self.database.read() as session:
            own = Document.assistant_id == self.assistant_id
            rows = {
                row.id: (row.external_id, row.version)
                for row in session.scalars(select(Document).where(own))
            }
            chunks = session.scalars(
                select(Chunk).where(Chunk.assistant_id == self.assistant_id).order_by(Chunk.id)
            ).all()
        assert rows == {d: (one.external_id, one.version) for d, one in self.documents.items()}
        stored: dict[str, list[Chunk]] = {document_id: [] for document_id in rows}
        for chunk in chunks:
            stored[chunk.document_id].append(chunk)
        for document_id, one in self.documents.items():
            assert [chunk.text for chunk in stored[document_id]] == list(one.texts)
            assert [chunk.vector for chunk in stored[document_id]] == [
                vector.tobytes() for vector in one.vectors
            ]
            assert [chunk.public_id for chunk in stored[document_id]] == [
                f"{document_id}.{one.version}.{position}" for position in range(len(one.texts))
            ]
        with self.database.read() as session:
            counted = documents.count(session, self.assistant_id)
        assert counted == (len(rows), len(chunks))

    @invariant()
    def both_indexes_follow(self) -> None:
        with self.database.read() as session:
            rows = session.execute(
                select(Chunk.id, Chunk.text, Chunk.vector).where(
                    Chunk.assistant_id == self.assistant_id
                )
            ).all()
            for word in WORDS:
                ranking = lexical.ranking(self.assistant_id, f'"{word}"')
                holding = {row.id for row in rows if row.text == word}
                assert {row[0] for row in session.execute(ranking)} == holding
        assert self.store.index.ids().tolist() == sorted(row.id for row in rows)
        query = vectors(1, 12345)
        cosines = {row.id: float(np.frombuffer(row.vector, "<f4") @ query[0]) for row in rows}
        hits = self.store.index.search(query, 1000)[0]
        assert {i for i, _ in hits} == set(cosines)
        for (i, score), expected in zip(hits, sorted(cosines.values(), reverse=True), strict=True):
            assert score == pytest.approx(cosines[i], abs=1e-6)
            assert score == pytest.approx(expected, abs=1e-6)


def test_store_against_a_dictionary(tmp_path: Path) -> None:
    with open_database(tmp_path / "node.db") as database:
        machine = type(
            "Machine", (StoreAgainstDictionary,), {"database": database, "folder": tmp_path}
        )
        # All examples share one database: each assistant's store must be blind to the others.
        machine.TestCase.settings = settings(
            deadline=None,
            max_examples=15,
            stateful_step_count=25,
            suppress_health_check=[HealthCheck.too_slow],
        )
        machine.TestCase().runTest()
        assert next(StoreAgainstDictionary.numbers) > 1


class TestVersions:
    def test_a_new_version_keeps_the_document_and_replaces_all_else(
        self, store: AssistantStore, database: Database
    ) -> None:
        first = put(store, new_document(["old one", "old two"], "x", "a.txt", attributes={"v": 1}))
        old = chunk_ids(database, 1)
        again = put(store, new_document(["new"], "x", "b.txt", attributes={"v": 2}), seed=5)
        assert again == first
        with database.read() as session:
            document = session.get_one(Document, first)
            described = (document.name, document.version, document.attributes)
        assert described == ("b.txt", 2, {"v": 2})
        assert not old & chunk_ids(database, 1)

    def test_readers_see_the_old_version_or_the_new_one(
        self, store: AssistantStore, database: Database
    ) -> None:
        put(store, new_document(["old"], "x"))
        with store.changing() as change:
            change.put(new_document(["new"], "x"), vectors(1))
            with database.read() as session:
                assert session.scalars(select(Chunk.text)).all() == ["old"]
        with database.read() as session:
            assert session.scalars(select(Chunk.text)).all() == ["new"]

    def test_vectors_must_be_as_many_as_passages(self, store: AssistantStore) -> None:
        with pytest.raises(ValueError, match="zip"), store.changing() as change:
            change.put(new_document(["one", "two"]), vectors(1))
        with store._database.read() as session:
            assert documents.count(session, store.assistant_id) == (0, 0)


class TestStart:
    def stale(self, store: AssistantStore, database: Database, tmp_path: Path) -> None:
        """A snapshot, then changes that are in the database only."""
        kept = put(store, new_document(["kept"]), 1)
        gone = put(store, new_document(["gone"]), 2)
        store.snapshot()
        with database.write() as session:
            change = Change(session, store.assistant_id)
            change.remove(gone)
            change.put(new_document(["fresh"]), vectors(1, 3))
        assert kept

    def test_it_replays_what_a_snapshot_misses(
        self, store: AssistantStore, database: Database, tmp_path: Path
    ) -> None:
        self.stale(store, database, tmp_path)
        again = open_store(database, 1, tmp_path / "index")
        assert set(again.index.ids().tolist()) == chunk_ids(database, 1)
        for seed in (1, 3):
            assert again.index.search(vectors(1, seed), 1)[0][0][1] == pytest.approx(1, abs=1e-6)

    def test_a_snapshot_with_what_was_deleted_since_does_not_stay(
        self, store: AssistantStore, database: Database, tmp_path: Path
    ) -> None:
        # Ids are never used again, except after a database was restored from an older backup:
        # the snapshot would then give them the vectors of other passages.
        self.stale(store, database, tmp_path)
        open_store(database, 1, tmp_path / "index")
        assert list((tmp_path / "index").iterdir()) == []

    @pytest.mark.parametrize("what", ["another embedder", "a damaged file"])
    def test_it_rebuilds_from_the_database_alone(
        self, store: AssistantStore, database: Database, tmp_path: Path, what: str
    ) -> None:
        for number in range(5):
            put(store, new_document([f"text {number}"]), number)
        store.snapshot()
        file = tmp_path / "index" / "gen-000001" / "index.faiss"
        manifest = tmp_path / "index" / "gen-000001" / "manifest.json"
        if what == "a damaged file":
            file.write_bytes(file.read_bytes()[:100])
        else:
            manifest.write_text(manifest.read_text().replace("synthetic", "other"))
        again = open_store(database, 1, tmp_path / "index")
        for number in range(5):
            assert again.index.search(vectors(1, number), 1)[0][0][1] == pytest.approx(1, abs=1e-6)

    def test_a_rebuild_in_several_portions_is_complete(
        self,
        store: AssistantStore,
        database: Database,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("retrieval.store.REBUILD_ROWS", 3)
        other = open_store(database, add_assistant(database, "b"), tmp_path / "other")
        for number in range(8):  # the rows of two assistants lie between each other
            put(store, new_document([f"mine {number}"]), number)
            put(other, new_document([f"theirs {number}"]), 100 + number)
        again = open_store(database, 1, tmp_path / "fresh")
        assert set(again.index.ids().tolist()) == chunk_ids(database, 1)
        assert len(again.index) == 8

    def test_the_index_of_another_assistant_in_its_place_gives_none_of_its_passages(
        self, store: AssistantStore, database: Database, tmp_path: Path
    ) -> None:
        other = open_store(database, add_assistant(database, "b"), tmp_path / "other")
        put(store, new_document(["mine"]), 1)
        put(other, new_document(["theirs"]), 2)
        other.snapshot()
        mistaken = open_store(database, 1, tmp_path / "other")
        assert set(mistaken.index.ids().tolist()) == chunk_ids(database, 1)


class TestEnd:
    def test_a_destroyed_store_leaves_no_file_and_saves_none(
        self, store: AssistantStore, tmp_path: Path
    ) -> None:
        put(store, new_document(["text"]))
        store.snapshot()
        put(store, new_document(["more"]))
        store.destroy()
        store.snapshot()
        assert not (tmp_path / "index").exists()

    def test_it_knows_its_own_content_only(
        self, store: AssistantStore, database: Database, tmp_path: Path
    ) -> None:
        other = open_store(database, add_assistant(database, "b"), tmp_path / "other")
        new = new_document(["text"])
        put(other, new)
        assert other.holds(new.content_hash)
        assert not store.holds(new.content_hash)
        # The same content in another assistant is stored once more, as a document of its own.
        assert put(store, new) not in {document for document, _ in listed(other, database)}


def listed(store: AssistantStore, database: Database) -> list[tuple[str, str]]:
    with database.read() as session:
        own = select(Document.id, Document.name).where(Document.assistant_id == store.assistant_id)
        return [(row[0], row[1]) for row in session.execute(own)]
