"""The library of a node that is stopped, killed, and started again."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path

import pysqlite3.dbapi2 as sqlite
import pytest
from sqlalchemy import update

from retrieval.embedding import Embedder
from retrieval.fusion_weight import Question
from retrieval.library import EmbedderChangedError
from storage.node_tables import Assistant, JobState, WeightSource
from tests.nodes import open_node, until


class TestStopAndStart:
    def test_accepted_uploads_are_finished_by_the_next_start(
        self, embedder: Embedder, tmp_path: Path
    ) -> None:
        home = tmp_path / "home"
        with open_node(home, embedder) as node:
            assistant_id = node.assistant()
            sent = [
                node.send(assistant_id, {f"{i}.txt": f"Text number {i}.".encode()})
                for i in range(30)
            ]
        with open_node(home, embedder) as node:
            for job_id in sent:
                assert node.finish(job_id).state is JobState.DONE
            assert node.library.count(assistant_id) == (30, 30)
            until(lambda: not list(node.home.uploads.iterdir()))
            assert node.library.searcher.search(assistant_id, "text 7", k=1)

    def test_what_a_kill_left_is_removed_and_the_rest_kept(
        self, embedder: Embedder, tmp_path: Path
    ) -> None:
        home = tmp_path / "home"
        with open_node(home, embedder) as node:
            assistant_id = node.assistant()
            node.ingest(assistant_id, {"a.txt": b"kept"})
            job_id = node.send(assistant_id, {"b.txt": b"waiting", "c.txt": b"stored already"})
            node.finish(job_id)
        # As a kill would leave it: one file of the job is stored but not yet removed.
        folder = home / "uploads" / job_id
        folder.mkdir(mode=0o700)
        (folder / "0").write_bytes(b"waiting still")
        (folder / "1").write_bytes(b"stored already")
        never = home / "uploads" / "job-never-accepted"
        never.mkdir()
        (never / "0").write_bytes(b"half an upload")
        (home / "uploads" / "spooled").write_bytes(b"a temporary file")
        (home / "indexes" / "99").mkdir()
        (home / "indexes" / "99" / "vectors").write_bytes(b"of nobody")
        (home / "indexes" / "note").write_bytes(b"of nobody")
        with closing(sqlite.connect(str(home / "node.db"))) as connection:
            connection.execute("UPDATE job_item SET state = 'running' WHERE name = 'b.txt'")
            connection.execute("UPDATE job SET finished_at = NULL WHERE id = ?", (job_id,))
            connection.commit()
        with open_node(home, embedder) as node:
            assert [path.name for path in (home / "indexes").iterdir()] == [str(assistant_id)]
            assert node.finish(job_id).state is JobState.DONE
            until(lambda: not list((home / "uploads").iterdir()))
            texts = {node.text(one) for one in node.documents(assistant_id)}
        assert texts == {"kept", "waiting", "waiting still", "stored already"}

    def test_another_embedder_is_refused(self, embedder: Embedder, tmp_path: Path) -> None:
        with open_node(tmp_path / "home", embedder) as node:
            assistant_id = node.assistant()
            with node.database.write() as session:
                session.execute(
                    update(Assistant).where(Assistant.id == assistant_id).values(embedder="other")
                )
        with (
            pytest.raises(EmbedderChangedError, match="other"),
            open_node(tmp_path / "home", embedder),
        ):
            pass

    def test_the_index_is_saved_at_the_end_and_used_by_the_next_start(
        self, embedder: Embedder, tmp_path: Path
    ) -> None:
        with open_node(tmp_path / "home", embedder) as node:
            assistant_id = node.assistant()
            node.ingest(assistant_id, {"a.txt": b"text"})
        folder = tmp_path / "home" / "indexes" / str(assistant_id)
        saved = {path.name for path in folder.iterdir()}
        assert "CURRENT" in saved
        with open_node(tmp_path / "home", embedder) as node:
            assert {path.name for path in folder.iterdir()} == saved
            assert node.library.searcher.search(assistant_id, "text", k=1, mode="dense")

    def test_changes_are_saved_and_weights_fitted_in_between(
        self, embedder: Embedder, tmp_path: Path
    ) -> None:
        with open_node(tmp_path / "home", embedder, snapshot_every=1) as node:
            assistant_id = node.assistant()
            node.ingest(assistant_id, {"a.txt": b"text"})
            folder = node.home.indexes / str(assistant_id)
            until((folder / "CURRENT").exists)

            def source() -> WeightSource | None:
                with node.database.read() as session:
                    return session.get_one(Assistant, assistant_id).weight_source

            until(lambda: source() is WeightSource.TITLES)
            node.library.learn_weight(assistant_id, [Question("text", frozenset())])
            node.ingest(assistant_id, {"b.txt": b"more text"})
            time.sleep(1.5)  # a round of housekeeping
            assert source() is WeightSource.LABELS

    def test_all_its_files_are_the_owners_alone(self, embedder: Embedder, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            with open_node(tmp_path / "home", embedder, snapshot_every=1) as node:
                assistant_id = node.assistant()
                sent = [node.send(assistant_id, {"a.txt": b"%d" % i}) for i in range(20)]
                seen: dict[Path, int] = {}
                while any(node.job(job_id).finished_at is None for job_id in sent):
                    seen |= modes(node.home.root)
                node.library.erase(assistant_id, sorted(node.documents(assistant_id))[:1], 30)
                seen |= modes(node.home.root)
        finally:
            os.umask(before)
        assert {path: mode for path, mode in seen.items() if mode & 0o077} == {}
        assert {"node.db", "node.db-wal", "tokenizer.json", "0"} <= {path.name for path in seen}


def modes(root: Path) -> dict[Path, int]:
    found = {}
    # Unlike rglob, walk passes over a folder that goes while it is listed.
    below = (Path(folder) / name for folder, *both in os.walk(root) for one in both for name in one)
    for path in (root, *below):
        try:
            found[path] = path.stat().st_mode & 0o777
        except FileNotFoundError:  # it went meanwhile
            continue
    return found
