"""After its receipt nothing of a document is in any file of the node: all bytes are searched."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as sqlite
import pytest
from sqlalchemy import select

from retrieval import jobs
from retrieval.embedding import Embedder
from retrieval.library import LibraryError
from retrieval.parse_worker import ParseWorker
from storage.node_tables import Chunk, Document, ItemState, JobState
from tests.nodes import JOB_SECONDS, Node, files_holding, open_node, until
from tests.retrieval.planted import RARE_LETTERS, Planted

ERASE_SECONDS = 120


@pytest.fixture(scope="module")
def node(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that saves its indexes all the time; temporary files of this process go below it."""
    root = tmp_path_factory.mktemp("erasure")
    before = tempfile.tempdir
    tempfile.tempdir = str(root)
    try:
        with open_node(root / "home", embedder, snapshot_every=1) as opened:
            keeper = opened.assistant("keeper")
            opened.ingest(keeper, {f"{i}.txt": f"Kept text {i}.".encode() for i in range(10)})
            yield opened
    finally:
        tempfile.tempdir = before


@pytest.fixture
def assistant_id(node: Node, request: pytest.FixtureRequest) -> int:
    return node.assistant(f"a{abs(hash(request.node.nodeid))}")


@pytest.fixture
def planted(request: pytest.FixtureRequest) -> Planted:
    return Planted(random.Random(request.node.nodeid))


def plant(node: Node, assistant_id: int, planted: Planted, external_id: str | None = None) -> str:
    """Ingest a document of rare words in name, attributes and text; returns its id."""
    (document_id,) = node.ingest(
        assistant_id,
        {f"{planted.word()}.md": planted.text()},
        external_ids=[external_id],
        attributes={planted.word(): planted.word()},
    )
    planted.remember_vectors(node, document_id)
    return document_id


def everywhere(node: Node) -> Path:
    return node.home.root.parent


def until_gone(root: Path, planted: Planted) -> None:
    deadline = time.monotonic() + JOB_SECONDS
    while found := files_holding(root, planted.needles()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def until_saved(node: Node, assistant_id: int) -> None:
    """Wait for a snapshot of the index."""
    until((node.home.indexes / str(assistant_id) / "CURRENT").exists)


class TestReceipt:
    def test_nothing_is_left_in_any_file(
        self, node: Node, assistant_id: int, planted: Planted
    ) -> None:
        document_id = plant(node, assistant_id, planted, planted.word())
        until_saved(node, assistant_id)
        before = files_holding(everywhere(node), planted.needles() | planted.whole())
        # Else the search would be blind.
        assert {needle for _, needle in before} >= planted.whole()
        vectors = {file for file, needle in before if needle in planted.blobs}
        assert any("index.faiss" in file for file in vectors)
        job = node.library.erase(assistant_id, [document_id], ERASE_SECONDS)
        assert job.state is JobState.DONE
        assert files_holding(everywhere(node), planted.needles()) == set()

    def test_all_versions_go(self, node: Node, assistant_id: int, planted: Planted) -> None:
        ids = {plant(node, assistant_id, planted, "same") for _ in range(4)}
        until_saved(node, assistant_id)
        (document_id,) = ids
        assert node.library.erase(assistant_id, [document_id], ERASE_SECONDS).finished_at
        assert files_holding(everywhere(node), planted.needles()) == set()

    def test_what_uploads_recorded_goes(
        self, node: Node, assistant_id: int, planted: Planted
    ) -> None:
        external_id = planted.word()
        content = planted.text()
        (document_id,) = node.ingest(
            assistant_id, {f"{planted.word()}.md": content}, external_ids=[external_id]
        )
        planted.remember_vectors(node, document_id)
        again = {
            "duplicate": node.send(assistant_id, {f"{planted.word()}.md": content}),
            "duplicate of another": node.send(
                assistant_id, {f"{planted.word()}.md": content}, external_ids=["other"]
            ),
            "unreadable version": node.send(
                assistant_id, {f"{planted.word()}.pdf": b"%PDF-1.7"}, external_ids=[external_id],
                attributes={"who": planted.word()},
            ),
        }  # fmt: skip
        states = {name: node.finish(job_id).items[0].state for name, job_id in again.items()}
        assert states == {
            "duplicate": ItemState.DUPLICATE,
            "duplicate of another": ItemState.FAILED,
            "unreadable version": ItemState.FAILED,
        }
        assert node.library.erase(assistant_id, [document_id], ERASE_SECONDS).finished_at
        assert files_holding(everywhere(node), planted.needles()) == set()

    def test_what_a_kill_left_of_its_uploads_goes(
        self, node: Node, assistant_id: int, planted: Planted
    ) -> None:
        content = planted.text()
        job_id = node.send(assistant_id, {"a.md": content})
        document_id = node.finish(job_id).items[0].document_id or ""
        folder = node.library.upload_folder(job_id)
        (folder / "0").write_bytes(content)
        node.library.erase(assistant_id, [document_id], ERASE_SECONDS)
        assert files_holding(everywhere(node), planted.needles()) == set()

    @pytest.mark.parametrize("stalled", [(ParseWorker, "parse"), (Embedder, "passages")])
    def test_its_uploads_that_are_still_waiting_go(
        self, node: Node, assistant_id: int, planted: Planted, monkeypatch: pytest.MonkeyPatch,
        stalled: tuple[type, str],
    ) -> None:  # fmt: skip
        content = planted.text()
        (document_id,) = node.ingest(assistant_id, {"a.md": content}, external_ids=["x"])
        reached, released = threading.Event(), threading.Event()
        work = getattr(*stalled)

        def stall(*given: Any) -> Any:
            reached.set()
            released.wait()
            return work(*given)

        monkeypatch.setattr(*stalled, stall)
        try:
            closed = [
                node.send(assistant_id, {f"{planted.word()}.md": text}, external_ids=[external_id])
                for text, external_id in [
                    (planted.text(), "x"), (content, None), (content, "y"), (planted.text(), "x"),
                ]
            ]  # fmt: skip
            reached.wait()
            kept = node.send(assistant_id, {"kept.md": b"Kept."})
            job = node.library.erase(assistant_id, [document_id], ERASE_SECONDS)
            assert job.state is JobState.DONE
            assert files_holding(everywhere(node), planted.needles()) == set()
            assert all(node.job(job_id).state is JobState.FAILED for job_id in closed)
            later = node.send(assistant_id, {"a.md": content}, external_ids=["z"])
        finally:
            released.set()
        new = {node.finish(job_id).items[0].document_id for job_id in (kept, later)}
        assert node.documents(assistant_id) == new
        items = [node.job(job_id).items[0] for job_id in closed]
        assert {(one.state, one.error_code) for one in items} == {(ItemState.FAILED, "erased")}
        until(lambda: not list(node.home.uploads.iterdir()))

    def test_many_of_many(self, node: Node, assistant_id: int, planted: Planted) -> None:
        """Enough rows and words that trees of pages are split and merged.

        The keys between pages of the lexical index are the shortest beginnings that tell
        neighbours apart: of words that differ in the last letter only, whole words. The embedder
        takes words of more than 100 letters for one token, so they cost it nothing.
        """
        rng = random.Random(1)
        cores = [["".join(rng.choices(RARE_LETTERS, k=120)) for _ in range(5)] for _ in range(60)]
        ids = node.ingest(
            assistant_id,
            {
                f"{own[0]}.txt": " ".join(core + end for core in own for end in "jkvx").encode()
                for own in cores
            },
        )
        until_saved(node, assistant_id)
        gone = [place for place in range(len(ids)) if place % 6]
        needles = {
            core[at : at + 12].encode()
            for place in gone
            for core in cores[place]
            for at in (4, 100)
        }
        assert {needle for _, needle in files_holding(everywhere(node), needles)} == needles
        erased = [ids[place] for place in gone]
        assert node.library.erase(assistant_id, erased, ERASE_SECONDS).finished_at
        assert files_holding(everywhere(node), needles) == set()
        assert node.documents(assistant_id) == set(ids[::6])
        for own in cores[::6]:
            assert node.library.searcher.search(assistant_id, own[0] + "x", k=1, mode="lexical")

    def test_it_lists_what_was_removed_and_what_lies_beyond(
        self, node: Node, assistant_id: int, planted: Planted
    ) -> None:
        ids = [plant(node, assistant_id, planted) for _ in range(2)]
        until_saved(node, assistant_id)
        job = node.library.erase(assistant_id, ids, ERASE_SECONDS)
        assert job.result is not None
        receipt = job.result["receipt"]
        assert receipt["documents"] == [
            {"id": document_id, "passages": 3, "vectors": 3} for document_id in ids
        ]
        assert receipt["requested_at"] <= receipt["completed_at"] == job.finished_at
        assert any("SSD" in line for line in receipt["not_covered"])
        assert any("backups" in line for line in receipt["not_covered"])
        assert "adapter" in receipt["adapters"]
        assert not any(word in str(receipt) for word in planted.words)

    def test_one_of_an_unknown_document_is_refused_as_a_whole(
        self, node: Node, assistant_id: int, planted: Planted
    ) -> None:
        document_id = plant(node, assistant_id, planted)
        theirs = next(iter(node.documents(node.assistant("keeper"))))
        for unknown in ("doc-0000000000000000", theirs):
            with pytest.raises(KeyError, match=unknown):
                node.library.erase(assistant_id, [document_id, unknown], ERASE_SECONDS)
        assert node.documents(assistant_id) == {document_id}
        assert theirs in node.documents(node.assistant("keeper"))

    def test_of_two_requests_for_one_document_both_are_answered(
        self, node: Node, assistant_id: int, planted: Planted
    ) -> None:
        document_id, other = (plant(node, assistant_id, planted) for _ in range(2))
        with node.database.write() as session:
            twins = [jobs.create_erase(session, assistant_id, [document_id]).id for _ in range(2)]
        node.library.erase(assistant_id, [other], ERASE_SECONDS)
        receipts = [node.finish(job_id).result["receipt"]["documents"] for job_id in twins]
        assert receipts == [
            [{"id": document_id, "passages": passages, "vectors": passages}] for passages in (3, 0)
        ]
        with pytest.raises(KeyError, match=document_id):
            node.library.erase(assistant_id, [document_id], 0)


class TestAfterwards:
    def test_the_others_are_found_as_before(
        self, node: Node, assistant_id: int, planted: Planted
    ) -> None:
        node.ingest(assistant_id, {f"{i}.txt": f"Neighbour {i}.".encode() for i in range(5)})
        question = "Which neighbour is number 3?"

        def results() -> dict[str, float]:
            hits = node.library.searcher.search(assistant_id, question, k=10)
            return {hit.chunk_id: hit.score for hit in hits}

        before = results()
        document_id = plant(node, assistant_id, planted)
        node.library.erase(assistant_id, [document_id], ERASE_SECONDS)
        assert results() == pytest.approx(before, abs=1e-5)

    def test_the_same_content_is_new_again(
        self, node: Node, assistant_id: int, planted: Planted
    ) -> None:
        content = planted.text()
        (first,) = node.ingest(assistant_id, {"a.md": content}, external_ids=["x"])
        node.library.erase(assistant_id, [first], ERASE_SECONDS)
        job = node.finish(node.send(assistant_id, {"a.md": content}, external_ids=["x"]))
        assert job.items[0].state is ItemState.DONE
        assert job.items[0].document_id != first

    def test_another_assistant_keeps_its_copy(
        self, node: Node, assistant_id: int, planted: Planted
    ) -> None:
        other = node.assistant("holds-the-same")
        content = planted.text()
        (mine,) = node.ingest(assistant_id, {"a.md": content})
        (theirs,) = node.ingest(other, {"a.md": content})
        node.library.erase(assistant_id, [mine], ERASE_SECONDS)
        assert node.documents(other) == {theirs}
        assert node.library.searcher.search(other, planted.words[0], k=1, mode="lexical")


class TestReaders:
    """A reader keeps old pages in the database's log: no receipt before it has ended."""

    @pytest.fixture
    def reading(self, node: Node) -> Iterator[sqlite.Connection]:
        with closing(sqlite.connect(str(node.home.database), isolation_level=None)) as reader:
            yield reader

    @staticmethod
    def begin(reader: sqlite.Connection) -> None:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM chunk").fetchall()

    def test_an_erasure_is_unfinished_until_they_end(
        self, node: Node, assistant_id: int, planted: Planted, reading: sqlite.Connection
    ) -> None:
        document_id = plant(node, assistant_id, planted)
        self.begin(reading)
        job = node.library.erase(assistant_id, [document_id], 0.5)
        assert (job.finished_at, job.result) == (None, None)
        # It is invisible at once, though its bytes are still in the log.
        assert document_id not in node.documents(assistant_id)
        assert files_holding(everywhere(node), planted.whole())
        # Neither reading nor writing is held up meanwhile.
        node.ingest(assistant_id, {"b.txt": b"another"})
        assert node.library.searcher.search(assistant_id, "another", k=1)
        assert node.job(job.id).finished_at is None
        reading.execute("ROLLBACK")
        done = node.finish(job.id)
        assert done.result is not None
        assert done.result["receipt"]["documents"][0]["id"] == document_id
        assert files_holding(everywhere(node), planted.needles()) == set()

    def test_deleting_an_assistant_says_so_and_completes_itself(
        self, node: Node, planted: Planted, reading: sqlite.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr("retrieval.library.DELETION_SECONDS", 0.5)
        assistant_id = node.assistant("doomed")
        plant(node, assistant_id, planted)
        self.begin(reading)
        with pytest.raises(LibraryError, match="as soon as they end"):
            node.library.delete_assistant(assistant_id)
        reading.execute("ROLLBACK")
        until_gone(everywhere(node), planted)
        assert not (node.home.indexes / str(assistant_id)).exists()

    def test_a_restart_goes_on_with_what_was_begun(
        self, embedder: Embedder, tmp_path: Path, planted: Planted
    ) -> None:
        home = tmp_path / "home"
        with open_node(home, embedder, index="fp16", snapshot_every=1) as node:
            assistant_id, doomed = node.assistant("a"), node.assistant("b")
            document_id = plant(node, assistant_id, planted)
            plant(node, doomed, planted)
            until_saved(node, doomed)
            saved = files_holding(home / "indexes" / str(doomed), planted.blobs)
            assert saved  # in half precision
            node.ingest(assistant_id, {"kept.txt": b"Kept text."})
            reader = sqlite.connect(str(home / "node.db"), isolation_level=None)
            self.begin(reader)
            job_id = node.library.erase(assistant_id, [document_id], 0).id
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("retrieval.library.DELETION_SECONDS", 0)
                with pytest.raises(LibraryError):
                    node.library.delete_assistant(doomed)
        assert files_holding(home, planted.whole())
        with open_node(home, embedder, index="fp16", snapshot_every=1) as node:
            assert node.job(job_id).finished_at is None
            reader.close()
            assert node.finish(job_id).state is JobState.DONE
            until_gone(home, planted)
            assert node.library.searcher.search(assistant_id, "kept", k=1)[0].text == "Kept text."


class TestAssistants:
    def test_all_that_one_held_goes_with_it(self, node: Node, planted: Planted) -> None:
        assistant_id = node.assistant("whole")
        kept = node.documents(node.assistant("keeper"))
        for _ in range(3):
            plant(node, assistant_id, planted, planted.word())
        node.send(assistant_id, {f"{planted.word()}.md": planted.text()})
        node.send(assistant_id, {f"{planted.word()}.pdf": planted.text()})
        node.library.delete_assistant(assistant_id)
        assert files_holding(everywhere(node), planted.needles()) == set()
        assert node.documents(node.assistant("keeper")) == kept


def test_replacing_alone_promises_nothing_but_leaves_no_row(
    node: Node, assistant_id: int, planted: Planted
) -> None:
    plant(node, assistant_id, planted, "x")
    node.ingest(assistant_id, {"a.txt": b"new version"}, external_ids=["x"])
    with node.database.read() as session:
        rows = session.execute(
            select(Document.name, Chunk.text)
            .join(Chunk)
            .where(Document.assistant_id == assistant_id)
        ).all()
    assert [tuple(row) for row in rows] == [("a.txt", "new version")]
