"""Evaluation: the metrics, and a corpus from end to end with the packaged embedder."""

from __future__ import annotations

import itertools
import math
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from retrieval import evaluate as evaluation
from retrieval.embedding import Embedder, Vectors
from retrieval.evaluate import Evaluation, Metrics, evaluate
from retrieval.fusion import DEFAULT_WEIGHT
from retrieval.labelled import DataError, Passage, Query
from retrieval.vector_cache import VectorCache

LOG3 = math.log2(3)


class TestMetrics:
    @pytest.mark.parametrize(
        ("ranked", "gold", "mrr", "recall", "ndcg"),
        [
            ("abc", "a", 1.0, 1.0, 1.0),
            ("abc", "b", 1 / 2, 1.0, 1 / LOG3),
            ("abc", "z", 0.0, 0.0, 0.0),
            ("abc", "bz", 1 / 2, 1 / 2, (1 / LOG3) / (1 + 1 / LOG3)),
            ("abc", "ac", 1.0, 1.0, (1 + 1 / 2) / (1 + 1 / LOG3)),
            ("", "a", 0.0, 0.0, 0.0),
            ("abcdefghij", "j", 1 / 10, 1.0, 1 / math.log2(11)),
            # Of 12 relevant documents no more than 10 can be found.
            ("abcdefghij", "abcdefghijkl", 1.0, 1.0, 1.0),
        ],
    )
    def test_by_hand(self, ranked: str, gold: str, mrr: float, recall: float, ndcg: float) -> None:
        found = evaluation._metrics(list(ranked), frozenset(gold))
        assert (found.mrr, found.recall) == (pytest.approx(mrr), pytest.approx(recall))
        assert found.ndcg == pytest.approx(ndcg)

    @given(st.permutations(range(20)), st.frozensets(st.integers(0, 19), min_size=1))
    def test_ndcg_is_that_of_scikit_learn(self, order: list[int], gold: frozenset[int]) -> None:
        ranked = [str(document) for document in order[:10]]
        found = evaluation._metrics(ranked, frozenset(map(str, gold)))
        relevance = np.array([[float(document in gold) for document in order]])
        scores = np.arange(20, 0, -1)[None].astype(float)
        assert found.ndcg == pytest.approx(ndcg_score(relevance, scores, k=10))

    def test_as_json(self) -> None:
        shown = Evaluation(
            queries=3, passages=4, clients=2,
            metrics={"dense": Metrics(0.123456, 0.5, 1.0)}, weights={"c": 0.3},
        ).as_json()  # fmt: skip
        assert shown == {
            "queries": 3,
            "passages": 4,
            "clients": 2,
            "dense": {"mrr@10": 0.1235, "recall@10": 0.5, "ndcg@10": 1.0},
            "weights": {"c": 0.3},
        }


TOPICS = {
    "garden": ("How do I grow tomatoes?", "Plant the seedlings in a sunny bed and water them."),
    "bread": ("How is a loaf baked?", "Knead flour, yeast and water, then put it in the oven."),
    "engine": ("Why does my car not start?", "Check the battery and the starter of the vehicle."),
    "music": ("How do I tune a guitar?", "Turn the pegs until each string sounds its note."),
    "taxes": ("When is income declared?", "Returns are sent to the revenue office every spring."),
    "dogs": ("What do puppies eat?", "Young hounds need small meals of meat and rice."),
}


def topics() -> tuple[list[Passage], list[Query]]:
    """A client whose questions and answers share meaning and hardly a word."""
    corpus = [Passage(name, text, "", "topics") for name, (_, text) in TOPICS.items()]
    queries = [
        Query(f"q-{name}", question, "topics", frozenset({name}), "test")
        for name, (question, _) in TOPICS.items()
    ]
    return corpus, queries


def parts(n: int) -> tuple[list[Passage], list[Query]]:
    """A client whose answers differ in the order of digits: a matter of words, not of meaning."""
    numbers = ["".join(digits) for digits in itertools.permutations("34789")][:n]
    corpus = [
        Passage(f"part-{number}", f"Screw {number} lies in the store room.", "", "parts")
        for number in numbers
    ]
    queries = [
        Query(
            f"{split}-{number}", f"Where is {number} kept?", "parts",
            frozenset({f"part-{number}"}), split,
        )
        for number in numbers
        for split in ("train", "test")
    ]  # fmt: skip
    return corpus, queries


def traps() -> tuple[list[Passage], list[Query]]:
    """A client whose questions name a thing that only the passage on another matter mentions."""
    names = list(TOPICS)
    corpus = [
        Passage(name, f"{text} Reference xk{i}q.", "", "traps")
        for i, (name, (_, text)) in enumerate(TOPICS.items())
    ]
    queries = [
        Query(
            f"{split}-{i}-{copy}", f"{TOPICS[name][0]} Not xk{(i + 1) % 6}q.", "traps",
            frozenset({name}), split,
        )
        for i, name in enumerate(names)
        for split, copies in (("train", 4), ("test", 1))
        for copy in range(copies)
    ]  # fmt: skip
    return corpus, queries


def everything() -> tuple[list[Passage], list[Query]]:
    (corpus, queries), (more, asked) = topics(), parts(40)
    return [*corpus, *more], [*queries, *asked]


@pytest.fixture(scope="module")
def of_topics(embedder: Embedder) -> Evaluation:
    return evaluate(*topics(), embedder)


@pytest.fixture(scope="module")
def of_parts(embedder: Embedder) -> Evaluation:
    return evaluate(*parts(40), embedder)


class TestEndToEnd:
    def test_dense_is_the_ranking_of_cosines(
        self, of_topics: Evaluation, embedder: Embedder
    ) -> None:
        corpus, queries = topics()
        questions = embedder.questions([query.text for query in queries])
        cosines = questions @ embedder.passages([passage.text for passage in corpus]).T
        places = [1 + int((row > row[i]).sum()) for i, row in enumerate(cosines)]
        expected = float(np.mean([1 / place for place in places]))
        assert of_topics.metrics["dense"].mrr == pytest.approx(expected)
        assert of_topics.metrics["dense"].recall == 1.0  # six documents fit into ten places
        assert (of_topics.queries, of_topics.passages, of_topics.clients) == (6, 6, 1)

    def test_a_weight_is_learned_where_there_are_questions_to_learn_from(
        self, of_topics: Evaluation, embedder: Embedder
    ) -> None:
        assert of_topics.weights == {"topics": DEFAULT_WEIGHT}
        misled = evaluate(*traps(), embedder)
        assert misled.weights["traps"] < DEFAULT_WEIGHT
        assert misled.metrics["hybrid"].mrr > misled.metrics["hybrid_default"].mrr
        assert misled.metrics["hybrid"].mrr >= misled.metrics["dense"].mrr

    def test_words_find_what_only_words_can(self, of_parts: Evaluation) -> None:
        assert of_parts.metrics["lexical"].mrr == 1.0
        assert of_parts.metrics["dense"].mrr < 0.9
        default = of_parts.metrics["hybrid_default"].mrr
        assert of_parts.metrics["dense"].mrr < default <= of_parts.metrics["hybrid"].mrr

    def test_each_client_counts_the_same(
        self, of_topics: Evaluation, of_parts: Evaluation, embedder: Embedder
    ) -> None:
        both = evaluate(*everything(), embedder)
        assert both.weights == {**of_topics.weights, **of_parts.weights}
        for mode in ("dense", "lexical", "hybrid", "hybrid_default"):
            expected = (of_topics.metrics[mode].mrr + of_parts.metrics[mode].mrr) / 2
            assert both.metrics[mode].mrr == pytest.approx(expected)
        assert (both.queries, both.passages, both.clients) == (46, 46, 2)

    def test_globally_each_question_counts_the_same_and_one_weight_serves_all(
        self, of_topics: Evaluation, of_parts: Evaluation, embedder: Embedder
    ) -> None:
        found = evaluate(*everything(), embedder, scope="global")
        assert list(found.weights) == ["all"]
        assert (found.queries, found.clients) == (46, 2)
        # What they speak of is so different that they are not in each other's way.
        expected = (6 * of_topics.metrics["dense"].mrr + 40 * of_parts.metrics["dense"].mrr) / 46
        assert found.metrics["dense"].mrr == pytest.approx(expected)

    def test_a_long_document_stands_where_its_best_passage_does(self, embedder: Embedder) -> None:
        corpus, queries = topics()
        padding = "The weather was dull and nothing much happened on that day. " * 60
        long = [
            replace(one, text=f"{padding}\n\n{one.text * 8}\n\n{padding}")
            if one.id == "dogs"
            else one
            for one in corpus
        ]
        asked = [query for query in queries if query.id == "q-dogs"]
        found = evaluate(long, asked, embedder)
        assert found.metrics["dense"].mrr == 1.0
        assert found.passages == 6  # lines of the corpus, however many pieces they have

    def test_answers_that_are_not_there_count_neither_for_nor_against(
        self, of_topics: Evaluation, embedder: Embedder
    ) -> None:
        corpus, queries = topics()
        more = [
            replace(query, gold_ids=query.gold_ids | {"missing", "elsewhere"}) for query in queries
        ]
        more.append(Query("q1", "Lost?", "topics", frozenset({"missing"}), "test"))
        more.append(Query("q2", "Of whom?", "nobody", frozenset({"dogs"}), "test"))
        other = Passage("elsewhere", "Something else.", "", "other")
        found = evaluate([*corpus, other], more, embedder)
        assert found.metrics == of_topics.metrics

    def test_another_split_is_asked_for_by_name(self, embedder: Embedder) -> None:
        corpus, queries = parts(5)
        assert evaluate(corpus, queries, embedder, split="train").queries == 5
        with pytest.raises(DataError, match="'dev'"):
            evaluate(corpus, queries, embedder, split="dev")
        with pytest.raises(DataError, match="has its answer"):
            evaluate([], queries, embedder)

    def test_cached_vectors_give_the_same_and_are_made_once(
        self, of_topics: Evaluation, embedder: Embedder, tmp_path: Path
    ) -> None:
        corpus, queries = topics()

        def refuse(texts: list[str]) -> Vectors:
            assert texts == []
            return np.empty((0, embedder.dimension), np.float32)

        with closing(VectorCache(tmp_path, embedder.identity)) as cache:
            assert evaluate(corpus, queries, embedder, cache=cache) == of_topics
            assert evaluate(corpus, queries, embedder, cache=cache) == of_topics
            twice = cache.vectors([passage.text for passage in corpus] * 2, refuse)
            np.testing.assert_array_equal(twice[:6], twice[6:])
        other = VectorCache(tmp_path, "another embedder")
        with closing(other), pytest.raises(AssertionError):
            other.vectors([corpus[0].text], refuse)
