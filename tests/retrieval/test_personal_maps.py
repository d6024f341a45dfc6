"""Each assistant is searched by its own map, also in a batch with others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from retrieval.embedding import Embedder
from retrieval.query_map import QueryMap, random_basis
from tests.nodes import new_document
from tests.retrieval.conftest import MakeShelf, Shelf

TEXTS = [
    "The library opens at nine and closes at six.",
    "The swimming pool is heated in winter.",
    "Members of the rowing club meet at the river.",
]
QUESTION = "What is there to do in this town?"
RANK = 8


@pytest.fixture
def shelf(make_shelf: MakeShelf) -> Shelf:
    """Three assistants that hold the same passages, and a fourth one."""
    made = make_shelf()
    for name in ("a", "b", "c", "d"):
        made.assistant(name, new_document(TEXTS))
    return made


def leading_to(embedder: Embedder, text: str) -> QueryMap:
    """A map that sends `QUESTION` to a passage: W = 100 (A'q)(p') makes q A W = 100 |A'q|^2 p."""
    basis = random_basis(embedder.dimension, RANK, 1)
    question, passage = embedder.questions([QUESTION])[0], embedder.passages([text])[0]
    weights = 100 * np.outer(basis.T @ question, passage)
    return QueryMap(basis, weights.astype(np.float32))


def first(shelf: Shelf, assistant_id: int) -> str:
    return shelf.searcher.search(assistant_id, QUESTION, k=1, mode="dense")[0].text


def test_interleaved_searches_of_assistants_each_use_their_own_map(shelf: Shelf) -> None:
    plain = first(shelf, 4)
    shared = next(text for text in TEXTS if text != plain)
    shelf.searcher.set_query_map(leading_to(shelf.embedder, shared))
    for number, text in enumerate(TEXTS, 1):
        shelf.searcher.set_personal_map(number, leading_to(shelf.embedder, text))
    wanted = dict(enumerate([*TEXTS, shared], 1))
    asked = [1 + number % 4 for number in range(240)]
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda assistant_id: first(shelf, assistant_id), asked))
    assert found == [wanted[assistant_id] for assistant_id in asked]


def test_a_personal_map_goes_alone_or_with_the_shared_one(shelf: Shelf) -> None:
    plain = first(shelf, 1)
    one, two = (text for text in TEXTS if text != plain)
    shelf.searcher.set_personal_map(1, leading_to(shelf.embedder, one))
    shelf.searcher.set_personal_map(2, leading_to(shelf.embedder, two))
    assert (first(shelf, 1), first(shelf, 2)) == (one, two)
    shelf.searcher.set_personal_map(1, None)
    assert (first(shelf, 1), first(shelf, 2)) == (plain, two)
    shelf.searcher.set_query_map(None)
    assert (first(shelf, 1), first(shelf, 2)) == (plain, plain)
    with pytest.raises(ValueError, match="24 numbers"):
        shelf.searcher.set_personal_map(
            1, QueryMap(random_basis(24, 2, 1), np.zeros((2, 24), np.float32))
        )
