"""From a question to ranked passages: each mode against NumPy, filters, batching, the end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import select

from retrieval import lexical
from retrieval.embedding import Embedder, Vectors
from retrieval.filters import FilterError
from retrieval.search import CANDIDATES, Hit, Mode
from storage.node_tables import Assistant, Chunk
from tests.nodes import new_document, until
from tests.retrieval.conftest import MakeShelf, Shelf

FACTS = [
    ("The library opens at nine and closes at six.", {"topic": "library", "year": 2020}),
    ("Books may be borrowed for four weeks.", {"topic": "library", "year": 2021}),
    ("The swimming pool is heated in winter.", {"topic": "sport", "year": 2021}),
    ("Members of the rowing club meet at the river.", {"topic": "sport", "year": 2022}),
    ("Dogs must be kept on a lead in the park.", {"topic": "park"}),
    ("The fountain in the park was built by a sculptor.", {"topic": "park", "year": 2019}),
    ("Parking at the library is free on Sundays.", {"topic": "library", "year": 2022}),
]
QUESTION = "When is the library open?"


def dump(hits: Sequence[Hit]) -> list[tuple[str, float]]:
    return [(hit.chunk_id, round(hit.score, 5)) for hit in hits]


@pytest.fixture(scope="module")
def shelf(make_shelf: MakeShelf) -> Shelf:
    made = make_shelf()
    made.assistant("town", *(new_document([text], attributes=about) for text, about in FACTS))
    made.assistant("empty")
    return made


class TestModes:
    def test_dense_is_the_order_of_cosines(self, shelf: Shelf, embedder: Embedder) -> None:
        hits = shelf.searcher.search(1, QUESTION, k=100, mode="dense")
        texts = [text for text, _ in FACTS]
        cosines = embedder.passages(texts) @ embedder.questions([QUESTION])[0]
        order = np.argsort(-cosines)
        assert [hit.text for hit in hits] == [texts[i] for i in order]
        np.testing.assert_allclose([hit.score for hit in hits], cosines[order], atol=1e-5)
        assert [hit.dense for hit in hits] == [hit.score for hit in hits]

    def test_lexical_is_the_order_of_bm25(self, shelf: Shelf) -> None:
        hits = shelf.searcher.search(1, QUESTION, k=100, mode="lexical")
        expression = lexical.expression(QUESTION)
        assert expression is not None
        with shelf.database.read() as session:
            ranked = session.execute(lexical.ranking(1, expression)).all()
            texts = dict(session.execute(select(Chunk.id, Chunk.text)).all())
        assert [(hit.text, hit.score) for hit in hits] == [(texts[i], score) for i, score in ranked]
        # "is" and "the" are in most passages, but they are no words of a question.
        assert {hit.text for hit in hits} == {FACTS[0][0], FACTS[6][0]}

    @pytest.mark.parametrize("weight", [None, 0.0, 0.65, 1.0])
    def test_hybrid_mixes_both_by_the_assistants_weight(
        self, shelf: Shelf, weight: float | None
    ) -> None:
        with shelf.database.write() as session:
            session.get_one(Assistant, 1).lexical_weight = weight
        dense = {
            hit.text: hit.score for hit in shelf.searcher.search(1, QUESTION, k=100, mode="dense")
        }
        words = {
            hit.text: hit.score for hit in shelf.searcher.search(1, QUESTION, k=100, mode="lexical")
        }
        w = 0.3 if weight is None else weight
        expected = {
            text: (1 - w) * max(cosine, 0) + w * words.get(text, 0) / max(words.values())
            for text, cosine in dense.items()
        }
        hits = shelf.searcher.search(1, QUESTION, k=100)
        assert {hit.text: hit.score for hit in hits} == pytest.approx(expected, abs=1e-5)
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert {hit.text: hit.lexical for hit in hits if hit.lexical} == words

    @pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
    @pytest.mark.parametrize("k", [1, 2, 5])
    def test_fewer_are_the_first_of_more(self, shelf: Shelf, mode: Mode, k: int) -> None:
        more = shelf.searcher.search(1, QUESTION, k=100, mode=mode)
        assert dump(shelf.searcher.search(1, QUESTION, k=k, mode=mode)) == dump(more[:k])

    @pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
    def test_an_empty_assistant_has_nothing(self, shelf: Shelf, mode: Mode) -> None:
        assert shelf.searcher.search(2, QUESTION, k=5, mode=mode) == []

    @pytest.mark.parametrize("question", ["", "   ", "?!", "\0", "x" * 20_000])
    def test_any_text_is_a_question(self, shelf: Shelf, question: str) -> None:
        assert len(shelf.searcher.search(1, question, k=3, mode="hybrid")) == 3
        assert shelf.searcher.search(1, question, k=3, mode="lexical") == []

    def test_a_hit_tells_where_it_comes_from(self, make_shelf: MakeShelf) -> None:
        shelf = make_shelf()
        document = new_document(
            ["One.", "The moon is made of basalt."], "ext", "moon.txt", title="Moon", heading="Rock"
        )
        assistant_id, (document_id,) = shelf.assistant("a", document)
        hit = shelf.searcher.search(assistant_id, "What is the moon made of?", k=1)[0]
        assert (hit.chunk_id, hit.document_id) == (f"{document_id}.1.1", document_id)
        assert (hit.external_id, hit.name, hit.title) == ("ext", "moon.txt", "Moon")
        assert (hit.heading, hit.page, hit.position) == ("Rock", None, 1)
        assert hit.text == "The moon is made of basalt."


class TestFilters:
    @pytest.mark.parametrize("mode", ["dense", "hybrid"])
    @pytest.mark.parametrize(
        ("where", "allowed"),
        [
            ({"topic": "park"}, [4, 5]),
            ({"year": {"$gte": 2021}}, [1, 2, 3, 6]),
            ({"year": None}, [4]),
            ({"$or": [{"topic": "sport"}, {"year": 2019}]}, [2, 3, 5]),
            ({"topic": "cinema"}, []),
            ({}, [0, 1, 2, 3, 4, 5, 6]),
        ],
    )
    def test_the_best_of_what_is_allowed(
        self, shelf: Shelf, mode: Mode, where: dict[str, object], allowed: list[int]
    ) -> None:
        hits = shelf.searcher.search(1, QUESTION, k=100, mode=mode, where=where)
        assert {hit.text for hit in hits} == {FACTS[i][0] for i in allowed}
        assert len(hits) == len(allowed)

    def test_a_filter_is_no_afterthought(self, make_shelf: MakeShelf) -> None:
        """What is allowed is found, however many better passages are not."""
        shelf = make_shelf()
        better = [
            new_document([f"The library opens at nine, notice {i}."], attributes={"old": True})
            for i in range(CANDIDATES + 20)
        ]
        assistant_id, _ = shelf.assistant("a", *better, new_document(["Dogs are kept on a lead."]))
        for mode in ("dense", "hybrid"):
            hits = shelf.searcher.search(
                assistant_id, QUESTION, k=5, mode=mode, where={"old": None}
            )
            assert [hit.text for hit in hits] == ["Dogs are kept on a lead."]

    def test_a_malformed_filter_is_refused(self, shelf: Shelf) -> None:
        with pytest.raises(FilterError):
            shelf.searcher.search(1, QUESTION, k=5, where={"topic": {"$like": "x"}})


class TestKinds:
    def test_half_precision_ranks_by_the_exact_cosines(
        self, make_shelf: MakeShelf, shelf: Shelf
    ) -> None:
        half = make_shelf(kind="fp16")
        half.assistant("town", *(new_document([text]) for text, _ in FACTS))
        exact = shelf.searcher.search(1, QUESTION, k=7, mode="dense")
        found = half.searcher.search(1, QUESTION, k=7, mode="dense")
        assert [(hit.text, hit.score) for hit in found] == [
            (hit.text, pytest.approx(hit.score, abs=1e-6)) for hit in exact
        ]

    def test_a_reranker_has_the_last_word_on_the_first_hits(self, make_shelf: MakeShelf) -> None:
        def shortest_first(question: str, passages: Sequence[str]) -> list[float]:
            assert question == QUESTION
            return [-float(len(passage)) for passage in passages]

        shelf = make_shelf(reranker=shortest_first)
        shelf.assistant("town", *(new_document([text]) for text, _ in FACTS))
        hits = shelf.searcher.search(1, QUESTION, k=3)
        assert [hit.text for hit in hits] == sorted((text for text, _ in FACTS), key=len)[:3]
        assert [hit.score for hit in hits] == [-float(len(hit.text)) for hit in hits]


CALLERS = 16


class TestTogether:
    def test_many_callers_get_what_one_gets(
        self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wheres = [None, {"topic": "park"}, {"year": {"$gte": 2021}}]
        modes: list[Mode] = ["dense", "lexical", "hybrid"]
        asked = [(text, mode, where) for text, _ in FACTS[:3] for mode in modes for where in wheres]

        def search(one: tuple[str, Mode, dict[str, object] | None]) -> list[tuple[str, float]]:
            question, mode, where = one
            return dump(shelf.searcher.search(1, question, k=10, mode=mode, where=where))

        alone = [search(one) for one in asked]
        batches: list[int] = []
        embed = shelf.embedder.questions

        def counted(texts: Sequence[str]) -> Vectors:
            if not batches:  # the others have come by the time that the first is embedded
                until(lambda: shelf.searcher._dense._waiting.qsize() == CALLERS - len(texts))
            batches.append(len(texts))
            return embed(texts)

        monkeypatch.setattr(shelf.embedder, "questions", counted)
        with ThreadPoolExecutor(CALLERS) as pool:
            together = list(pool.map(search, asked * 2))
        assert sum(batches) == len(together)
        assert CALLERS in (batches[0], batches[0] + batches[1])
        # Texts of a batch are padded to one length, which changes the last digits of a vector.
        for found, expected in zip(together, alone * 2, strict=True):
            assert dict(found) == pytest.approx(dict(expected), abs=1e-4)

    def test_an_error_reaches_its_caller_and_the_next_question_is_answered(
        self, shelf: Shelf
    ) -> None:
        with pytest.raises(TypeError):  # half of a surrogate pair cannot be tokenized
            shelf.searcher.search(1, "\ud800", k=1, mode="dense")
        assert shelf.searcher.search(1, QUESTION, k=1)

    def test_an_unknown_assistant_is_said_to_be_unknown(self, shelf: Shelf) -> None:
        with pytest.raises(KeyError):
            shelf.searcher.search(99, QUESTION, k=1)

    def test_after_the_end_nobody_waits_for_an_answer(self, make_shelf: MakeShelf) -> None:
        shelf = make_shelf()
        shelf.assistant("town", *(new_document([text]) for text, _ in FACTS))
        ended: list[str] = []
        began = threading.Barrier(9)

        def ask() -> None:
            began.wait()
            try:
                while True:
                    shelf.searcher.search(1, QUESTION, k=1)
            except RuntimeError as error:
                ended.append(str(error))

        callers = [threading.Thread(target=ask) for _ in range(8)]
        for caller in callers:
            caller.start()
        began.wait()
        shelf.searcher.close()
        for caller in callers:
            caller.join(60)
        assert ended == ["the search is closed"] * 8
