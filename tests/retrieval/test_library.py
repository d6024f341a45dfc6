"""The library of a node: uploads in order, what is held up, assistants, many at once."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, select, text
from structlog.testing import capture_logs

from retrieval import jobs
from retrieval.embedding import Embedder
from retrieval.jobs import Upload
from retrieval.library import AssistantExistsError, BadNameError, UnknownAssistantError
from storage.node_tables import Document, ItemState, JobItem, JobState
from tests.nodes import Node, open_node, until


@pytest.fixture(scope="module")
def node(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with open_node(tmp_path_factory.mktemp("library") / "home", embedder) as opened:
        yield opened


@pytest.fixture
def assistant_id(node: Node, request: pytest.FixtureRequest) -> int:
    """A fresh assistant for a test."""
    return node.assistant(f"a{abs(hash(request.node.nodeid))}")


def by_external_id(node: Node, assistant_id: int) -> dict[str | None, str]:
    """What is stored: the text of each document by external id."""
    with node.database.read() as session:
        own = select(Document.external_id, Document.id).where(Document.assistant_id == assistant_id)
        rows = session.execute(own).all()
    return {external_id: node.text(document_id) for external_id, document_id in rows}


class TestUploads:
    def test_a_file_becomes_passages_that_are_found(self, node: Node, assistant_id: int) -> None:
        (document_id,) = node.ingest(
            assistant_id, {"moon.md": b"# Moon\n\nIt is made of basalt."}, attributes={"a": 1}
        )
        hit = node.library.searcher.search(assistant_id, "moon", k=1, where={"a": 1})[0]
        assert (hit.document_id, hit.name, hit.heading) == (document_id, "moon.md", "Moon")
        assert "basalt" in hit.text
        assert node.library.count(assistant_id) == (1, 1)

    def test_nothing_of_the_upload_stays_beside_the_database(
        self, node: Node, assistant_id: int
    ) -> None:
        job_id = node.send(assistant_id, {"a.txt": b"first", "b.txt": b"second"})
        node.finish(job_id)
        until(lambda: not (node.home.uploads / job_id).exists())
        assert node.documents(assistant_id)

    def test_the_same_content_is_stored_once(self, node: Node, assistant_id: int) -> None:
        first = node.ingest(assistant_id, {"a.txt": b"same", "b.txt": b"same"})
        job = node.finish(node.send(assistant_id, {"c.txt": b"same"}))
        assert {*first, job.items[0].document_id} == node.documents(assistant_id)
        assert job.items[0].state is ItemState.DUPLICATE
        assert (job.state, job.result) == (
            JobState.DONE, {"done": 0, "duplicate": 1, "failed": 0},
        )  # fmt: skip
        assert node.library.count(assistant_id) == (1, 1)

    def test_a_known_external_id_replaces_its_document(self, node: Node, assistant_id: int) -> None:
        first = node.ingest(assistant_id, {"a.txt": b"old"}, external_ids=["x"])
        again = node.ingest(assistant_id, {"b.txt": b"new"}, external_ids=["x"])
        assert first == again
        assert by_external_id(node, assistant_id) == {"x": "new"}

    def test_content_of_another_external_id_is_refused_with_its_document(
        self, node: Node, assistant_id: int
    ) -> None:
        (held,) = node.ingest(assistant_id, {"a.txt": b"content"}, external_ids=["x"])
        job = node.finish(node.send(assistant_id, {"b.txt": b"content"}, external_ids=["y"]))
        item = job.items[0]
        assert (item.state, item.error_code) == (ItemState.FAILED, "duplicate_content")
        assert item.document_id == held
        assert job.state is JobState.FAILED

    def test_files_that_cannot_be_read_do_not_hold_up_the_others(
        self, node: Node, assistant_id: int
    ) -> None:
        job = node.finish(
            node.send(
                assistant_id,
                {
                    "good.txt": b"Good text.",
                    "broken.pdf": b"%PDF-1.7 and nothing more",
                    "empty.txt": b"",
                    "better.txt": b"Better text.",
                },
            )
        )
        states = {item.name: item.state for item in job.items}
        assert states == {
            "good.txt": ItemState.DONE,
            "broken.pdf": ItemState.FAILED,
            "empty.txt": ItemState.FAILED,
            "better.txt": ItemState.DONE,
        }
        assert all(item.error_message for item in job.items if item.state is ItemState.FAILED)
        assert (job.state, job.result) == (
            JobState.DONE, {"done": 2, "duplicate": 0, "failed": 2},
        )  # fmt: skip

    def test_a_file_that_was_lost_fails_alone(self, node: Node, assistant_id: int) -> None:
        job_id = jobs.new_id()
        folder = node.library.upload_folder(job_id)
        (folder / "1").write_bytes(b"here")
        node.library.accept(
            job_id,
            assistant_id,
            [
                Upload("gone.txt", folder / "0", 4),
                Upload("here.txt", folder / "1", 4),
                Upload("big.txt", None, 10**9, error=("too_large", "at most 100 MiB")),
            ],
        )
        job = node.finish(job_id)
        codes = {item.name: item.error_code for item in job.items}
        assert codes == {"gone.txt": "lost", "here.txt": None, "big.txt": "too_large"}

    def test_of_nothing_but_refused_files_the_job_has_failed_at_once(
        self, node: Node, assistant_id: int
    ) -> None:
        job_id = jobs.new_id()
        node.library.accept(
            job_id, assistant_id, [Upload("big.txt", None, 10**9, error=("too_large", "no"))]
        )
        assert node.job(job_id).state is JobState.FAILED

    def test_for_an_unknown_assistant_the_files_do_not_stay(self, node: Node) -> None:
        job_id = jobs.new_id()
        folder = node.library.upload_folder(job_id)
        (folder / "0").write_bytes(b"text")
        with pytest.raises(UnknownAssistantError):
            node.library.accept(job_id, 9_999, [Upload("a.txt", folder / "0", 4)])
        assert not folder.exists()


class TestOrder:
    @pytest.mark.parametrize("seed", range(3))
    def test_the_last_upload_of_an_external_id_is_what_stays(
        self, node: Node, assistant_id: int, seed: int
    ) -> None:
        """Also within one second, and where an earlier content returns (issue: A, B, A)."""
        rng = random.Random(seed)
        last, sent = {}, []
        for _ in range(12):
            external_id, content = rng.choice("xy"), rng.choice(["first", "second", "third"])
            last[external_id] = f"{content} text of {external_id}"
            files = {"a.txt": last[external_id].encode()}
            sent.append(node.send(assistant_id, files, external_ids=[external_id]))
        for job_id in sent:
            assert node.finish(job_id).state is JobState.DONE
        assert by_external_id(node, assistant_id) == last

    def test_a_search_beside_an_upload_finds_it_or_the_job_is_still_open(
        self, node: Node, assistant_id: int
    ) -> None:
        job_id = node.send(assistant_id, {"a.txt": b"The password is swordfish."})
        while True:
            finished = node.job(job_id).finished_at is not None
            hits = node.library.searcher.search(assistant_id, "What is the password?", k=1)
            if hits:
                assert hits[0].text == "The password is swordfish."
            if finished:
                assert hits
                break


class TestHeldUp:
    def test_a_full_disk_holds_uploads_up_and_loses_none(
        self, embedder: Embedder, tmp_path: Path
    ) -> None:
        # SQLite's own limit on pages gives the very error that a full disk gives.
        most = [10**9]
        with open_node(tmp_path / "home", embedder) as node, capture_logs() as logs:
            event.listen(
                node.database._engine,
                "checkout",
                lambda connection, *_: connection.execute(f"PRAGMA max_page_count={most[0]}"),
            )
            assistant_id = node.assistant()
            node.ingest(assistant_id, {"a.txt": b"before"})
            with node.database.read() as session:
                most[0] = session.execute(text("PRAGMA page_count")).scalar_one() + 2
            job_id = node.send(
                assistant_id, {f"{i}.txt": f"Number {i}. ".encode() * 80 for i in range(6)}
            )
            until(lambda: any(entry["event"] == "ingest is held up" for entry in logs))
            assert node.job(job_id).finished_at is None
            most[0] = 10**9
            job = node.finish(job_id)
        assert {item.state for item in job.items} == {ItemState.DONE}

    def test_progress_is_told_while_a_document_is_embedded(
        self, node: Node, assistant_id: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("retrieval.ingest.BATCH", 1)
        monkeypatch.setattr("retrieval.ingest.PROGRESS_SECONDS", 0)
        sections = "".join(f"# Section {i}\n\nSome text.\n\n" for i in range(40))
        job_id = node.send(assistant_id, {"long.md": sections.encode()})
        seen = set()

        def finished() -> bool:
            job = node.job(job_id)
            if job.items[0].chunks:
                seen.add((job.items[0].chunks_done, job.items[0].chunks))
            return job.finished_at is not None

        until(finished)
        assert {total for _, total in seen} == {40}
        assert (40, 40) in seen
        assert len(seen) > 1
        assert all(0 < done <= 40 for done, _ in seen)


class TestAssistants:
    @pytest.mark.parametrize(
        "name", ["", "A", "-a", "a b", "ä", "a" * 64, "../x", "a/b", "a\n", ".a", "_a"]
    )
    def test_names_are_restricted(self, node: Node, name: str) -> None:
        with pytest.raises(BadNameError):
            node.library.create_assistant(name)

    def test_a_name_is_given_once(self, node: Node) -> None:
        node.library.create_assistant("twin")
        with pytest.raises(AssistantExistsError):
            node.library.create_assistant("twin")

    def test_a_deleted_one_is_gone_and_its_name_free(self, node: Node) -> None:
        first = node.library.create_assistant("short-lived").id
        node.ingest(first, {"a.txt": b"text"})
        node.library.delete_assistant(first)
        with pytest.raises(UnknownAssistantError):
            node.library.delete_assistant(first)
        with pytest.raises(KeyError):
            node.library.searcher.search(first, "text", k=1)
        again = node.library.create_assistant("short-lived").id
        assert again != first
        assert node.library.searcher.search(again, "text", k=1) == []

    def test_deleting_one_whose_uploads_wait_ends_them(self, node: Node) -> None:
        assistant_id = node.library.create_assistant("busy").id
        sent = [node.send(assistant_id, {"a.txt": b"Text %d." % i}) for i in range(15)]
        node.library.delete_assistant(assistant_id)
        with node.database.read() as session:
            assert session.scalars(select(JobItem.id).where(JobItem.job_id.in_(sent))).all() == []
        for job_id in sent:
            until(lambda job_id=job_id: not (node.home.uploads / job_id).exists())
        assert not (node.home.indexes / str(assistant_id)).exists()
        # Those that come after it are not held up.
        node.ingest(node.assistant("next"), {"a.txt": b"text"})


def test_many_at_once(embedder: Embedder, tmp_path: Path) -> None:
    """Uploads, searches and erasures from many threads; at the end all agree."""
    home = tmp_path / "home"
    kept: dict[int, dict[str, str]] = {}
    stop = threading.Event()
    with open_node(home, embedder, snapshot_every=5) as node:
        ids = [node.assistant(name) for name in ("a", "b")]

        def work(seed: int) -> None:
            """Puts, replaces and erases external ids of its own."""
            rng = random.Random(seed)
            assistant_id = ids[seed % 2]
            own: dict[str, tuple[str, str]] = {}
            for step in range(6):
                external_id = f"{seed}-{rng.randrange(2)}"
                if external_id in own and rng.random() < 0.4:
                    document_id, _ = own.pop(external_id)
                    done = node.library.erase(assistant_id, [document_id], 60)
                    assert done.state is JobState.DONE
                else:
                    text = f"Worker {seed} wrote this in step {step}."
                    (document_id,) = node.ingest(
                        assistant_id, {"a.txt": text.encode()}, external_ids=[external_id]
                    )
                    own[external_id] = (document_id, text)
            kept[seed] = {external_id: text for external_id, (_, text) in own.items()}

        def search(assistant_id: int) -> None:
            while not stop.is_set():
                for hit in node.library.searcher.search(assistant_id, "Who wrote this?", k=50):
                    writer = int(hit.text.split()[1])
                    assert ids[writer % 2] == assistant_id

        with ThreadPoolExecutor(8) as pool:
            searches = [pool.submit(search, assistant_id) for assistant_id in ids]
            for worker in [pool.submit(work, seed) for seed in range(6)]:
                worker.result()
            stop.set()
            for one in searches:
                one.result()
        check(node, ids, kept)
    with open_node(home, embedder) as node:
        check(node, ids, kept)


def check(node: Node, ids: list[int], kept: dict[int, dict[str, str]]) -> None:
    for place, assistant_id in enumerate(ids):
        expected = {
            external_id: text
            for seed, own in kept.items()
            if seed % 2 == place
            for external_id, text in own.items()
        }
        assert by_external_id(node, assistant_id) == expected
        hits = node.library.searcher.search(assistant_id, "Who wrote this?", k=100, mode="dense")
        assert sorted(hit.text for hit in hits) == sorted(expected.values())
