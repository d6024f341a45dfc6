"""Assistants whose passages were embedded by the packaged model, without the rest of a node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from retrieval.embedding import Embedder
from retrieval.index import IndexKind, VectorIndex
from retrieval.parsing import ParsedDocument, ParseLimits, parse
from retrieval.search import Reranker, Searcher
from retrieval.store import AssistantStore, NewDocument
from storage.database import Database
from tests.nodes import add_assistant, open_database, open_store
from tests.retrieval.documents import LIMITS


@dataclass
class Shelf:
    """Assistants by name, and the search over them."""

    database: Database
    folder: Path
    embedder: Embedder
    reranker: Reranker | None = None
    kind: IndexKind = "flat"
    stores: dict[int, AssistantStore] = field(default_factory=dict)
    searcher: Searcher = field(init=False)

    def __post_init__(self) -> None:
        self.searcher = Searcher(self.database, self.stores, self.embedder, self.reranker)

    def assistant(self, name: str, *documents: NewDocument) -> tuple[int, list[str]]:
        """A new assistant with these documents; their ids in order."""
        assistant_id = add_assistant(self.database, name)
        index = VectorIndex(
            self.folder / name, self.embedder.identity, self.embedder.dimension, self.kind
        )
        store = AssistantStore(self.database, assistant_id, index)
        self.stores[assistant_id] = store
        texts = [passage.embedded_text for one in documents for passage in one.passages]
        vectors = self.embedder.passages(texts)
        ids, start = [], 0
        with store.changing() as change:
            for one in documents:
                end = start + len(one.passages)
                ids.append(change.put(one, vectors[start:end]).document_id)
                start = end
        return assistant_id, ids


MakeShelf = Callable[..., Shelf]


@pytest.fixture(scope="module")
def make_shelf(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeShelf]:
    opened: list[Shelf] = []

    def make(reranker: Reranker | None = None, kind: IndexKind = "flat") -> Shelf:
        folder = tmp_path_factory.mktemp("shelf")
        database = open_database(folder / "node.db")
        opened.append(Shelf(database.__enter__(), folder, embedder, reranker, kind))
        return opened[-1]

    yield make
    for shelf in opened:
        shelf.searcher.close()
        shelf.database.close()


Read = Callable[..., ParsedDocument]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Parse bytes as an upload of this name."""

    def _read(data: bytes, name: str, limits: ParseLimits = LIMITS) -> ParsedDocument:
        path = tmp_path / "upload"
        path.write_bytes(data)
        return parse(path, name, limits)

    return _read


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database(tmp_path / "node.db") as opened:
        yield opened


@pytest.fixture
def store(database: Database, tmp_path: Path) -> AssistantStore:
    return open_store(database, add_assistant(database, "a"), tmp_path / "index")
