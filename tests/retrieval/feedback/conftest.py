"""A node with a key and two documents, for tests of feedback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from retrieval.embedding import Embedder
from storage.node_tables import Key
from tests.nodes import Node, open_node
from tests.retrieval.feedback.giving import make_key, text


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Node]:
    with open_node(tmp_path_factory.mktemp("feedback") / "home", embedder) as opened:
        yield opened


@pytest.fixture
def assistant(node: Node, request: pytest.FixtureRequest) -> Iterator[int]:
    made = node.assistant(request.node.name.replace("_", "-")[:40])
    yield made
    node.library.delete_assistant(made)


@pytest.fixture
def documents(node: Node, assistant: int) -> tuple[str, str]:
    first, second = node.ingest(assistant, {f"{t}.md": text(t) for t in ("oak trees", "tides")})
    return first, second


@pytest.fixture(scope="module")
def key(node: Node) -> Key:
    return make_key(node)
