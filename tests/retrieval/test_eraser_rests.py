"""How often the eraser rewrites the database: small deletions share it, erasures have their own."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from retrieval import erase, feedback
from retrieval.embedding import Embedder
from storage.database import Database
from storage.node_tables import JobState
from tests.nodes import Node, files_holding, open_node, until
from tests.retrieval.feedback.giving import give

ERASE_SECONDS = 120


@pytest.fixture
def rewritings(monkeypatch: pytest.MonkeyPatch) -> list[Database]:
    """Grows by one with each rewriting of a database, after which one rests for ever."""
    made: list[Database] = []
    compact = Database.compact

    def counted(database: Database) -> None:
        compact(database)
        made.append(database)

    monkeypatch.setattr(Database, "compact", counted)
    monkeypatch.setattr(erase, "REST", 1e9)
    return made


def test_small_deletions_wait_for_each_other_and_erasures_for_nothing(
    tmp_path: Path, embedder: Embedder, rewritings: list[Database]
) -> None:
    with open_node(tmp_path / "home", embedder) as node:
        assistant = node.assistant()
        documents = node.ingest(assistant, {f"{i}.txt": f"Text {i}.".encode() for i in "abc"})
        given = [give(node, assistant, None, question=f"zwq{i}?").id for i in range(6)]
        remove(node, assistant, given[0])
        until(lambda: rewritings and not files_holding(tmp_path, [b"zwq0?"]))
        before = len(rewritings)
        for number in given[1:]:
            remove(node, assistant, number)
            # An eraser that does not rest has found it by then.
            time.sleep(0.1)
        assert len(rewritings) == before
        for done, document in enumerate(documents, 1):
            job = node.library.erase(assistant, [document], ERASE_SECONDS)
            assert job.state is JobState.DONE
            assert len(rewritings) == before + done
            assert not files_holding(tmp_path, [f"zwq{i}?".encode() for i in range(6)])


def remove(node: Node, assistant: int, number: int) -> None:
    with node.database.write() as session:
        assert feedback.remove(session, assistant, number).removed
