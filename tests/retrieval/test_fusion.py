"""Mixing dense and lexical scores, and fitting the weight of the mixture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import fusion
from retrieval.fusion import Candidates, Labelled


def candidates(
    rows: Sequence[tuple[int, str, float, float]],
) -> Candidates:
    """Rows of (id, document, cosine, BM25)."""
    return Candidates(
        ids=np.array([row[0] for row in rows], np.int64),
        documents=np.array([row[1] for row in rows], np.str_),
        dense=np.array([row[2] for row in rows], np.float64),
        lexical=np.array([row[3] for row in rows], np.float64),
    )


class TestMixture:
    def test_by_hand(self) -> None:
        mixed = fusion.mix(
            candidates([(1, "a", 0.8, 0.0), (2, "b", 0.2, 5.0), (3, "c", 0.5, 10.0)]), 0.3
        )
        np.testing.assert_allclose(mixed, [0.7 * 0.8, 0.7 * 0.2 + 0.15, 0.7 * 0.5 + 0.3])

    @pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
    def test_without_a_common_word_the_dense_score_decides(self, weight: float) -> None:
        both = candidates([(1, "a", 0.2, 0.0), (2, "b", 0.9, 0.0)])
        np.testing.assert_allclose(fusion.mix(both, weight), (1 - weight) * both.dense)

    def test_a_negative_cosine_counts_as_none(self) -> None:
        mixed = fusion.mix(candidates([(1, "a", -0.4, 3.0), (2, "b", 0.1, 0.0)]), 0.5)
        np.testing.assert_allclose(mixed, [0.5, 0.05])

    def test_of_nothing_is_nothing(self) -> None:
        assert fusion.mix(candidates([]), 0.3).shape == (0,)
        assert fusion.rank_documents(candidates([]), np.empty(0)) == []

    @given(
        st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 50)), min_size=1, max_size=20),
        st.floats(0, 1),
    )
    def test_scores_lie_between_0_and_1_and_grow_with_both_parts(
        self, parts: list[tuple[float, float]], weight: float
    ) -> None:
        rows = [(i, str(i), dense, lexical) for i, (dense, lexical) in enumerate(parts)]
        mixed = fusion.mix(candidates(rows), weight)
        assert ((mixed >= 0) & (mixed <= 1 + 1e-12)).all()
        for one, first in zip(rows, mixed, strict=True):
            for other, second in zip(rows, mixed, strict=True):
                if one[2] <= other[2] and one[3] <= other[3]:
                    assert first <= second + 1e-12


class TestRanking:
    def test_ties_go_to_the_lower_id_whatever_the_order_of_rows(self) -> None:
        rows = [(9, "c", 0.5, 0.0), (2, "b", 0.5, 0.0), (5, "a", 0.7, 0.0)]
        for turned in (rows, rows[::-1]):
            some = candidates(turned)
            assert some.ids[fusion.order(some, some.dense)].tolist() == [5, 2, 9]
            assert fusion.rank_documents(some, some.dense) == ["a", "b", "c"]

    def test_a_document_stands_where_its_best_passage_does(self) -> None:
        some = candidates([(1, "a", 0.1, 0), (2, "b", 0.5, 0), (3, "a", 0.9, 0), (4, "c", 0.8, 0)])
        assert fusion.rank_documents(some, some.dense) == ["a", "c", "b"]
        assert fusion.rank_documents(some, some.dense, k=2) == ["a", "c"]


def place_by_sorting(question: Labelled, weight: float) -> float:
    """1 / the place of the first relevant document, written out in plain Python."""
    some = question.candidates
    highest = max(some.lexical.tolist(), default=0.0)
    passages = []
    for i, document, dense, lexical in zip(
        some.ids.tolist(), some.documents.tolist(), some.dense.tolist(), some.lexical.tolist(),
        strict=True,
    ):  # fmt: skip
        share = lexical / highest if highest > 0 else 0.0
        passages.append((-((1 - weight) * max(dense, 0.0) + weight * share), i, document))
    seen: list[str] = []
    for _, _, document in sorted(passages):
        if document not in seen:
            seen.append(document)
        if document in question.relevant:
            return 1 / len(seen) if len(seen) <= 10 else 0.0
    return 0.0


@st.composite
def labelled(draw: st.DrawFn) -> Labelled:
    """Few different scores, so that there are ties, and more documents than are counted."""
    size = draw(st.integers(0, 25))
    names = [f"d{i}" for i in range(15)]
    scores = st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0])
    rows = [
        (i, draw(st.sampled_from(names)), draw(scores), abs(draw(scores)) * 8)
        for i in draw(st.permutations(range(size)))
    ]
    return Labelled(candidates(rows), draw(st.frozensets(st.sampled_from(names), max_size=3)))


class TestFit:
    @settings(deadline=None, max_examples=25)
    @given(st.lists(labelled(), min_size=20, max_size=24), st.sampled_from([0.0, 0.3, 0.55, 1.0]))
    def test_it_is_the_best_of_all_weights(self, questions: list[Labelled], default: float) -> None:
        means = {
            step / 20: sum(place_by_sorting(q, step / 20) for q in questions) for step in range(21)
        }
        best = max(means.values())
        equals = [weight for weight, mean in means.items() if mean > best - 1e-9]
        nearest = min(abs(weight - default) for weight in equals)
        fitted = fusion.fit_weight(questions, default)
        assert fitted in equals
        assert abs(fitted - default) == pytest.approx(nearest)

    def test_a_weight_that_finds_by_luck_of_a_tie_is_not_preferred(self) -> None:
        # By words alone the relevant passage, which has none in common, ties with 14 others and
        # comes last among them; by meaning it comes fifth.
        rows = [(0, "word", 0.1, 4.0)]
        rows += [(i, f"d{i}", 0.9 if i < 5 else 0.2, 0.0) for i in range(1, 15)]
        rows += [(99, "relevant", 0.5, 0.0)]
        questions = [Labelled(candidates(rows), frozenset({"relevant"}))] * 20
        assert place_by_sorting(questions[0], 1.0) == 0.0
        assert fusion.fit_weight(questions) < 1.0

    def test_few_questions_say_less_than_the_default(self) -> None:
        question = Labelled(
            candidates([(1, "wrong", 0.9, 0.0), (2, "right", 0.0, 5.0)]), frozenset({"right"})
        )
        assert fusion.fit_weight([question] * 19) == fusion.DEFAULT_WEIGHT
        assert fusion.fit_weight([question] * 20) > fusion.DEFAULT_WEIGHT
        assert fusion.fit_weight([], 0.7) == 0.7

    def test_questions_without_an_answer_change_nothing(self) -> None:
        lost = Labelled(candidates([(1, "a", 0.5, 1.0)]), frozenset({"elsewhere"}))
        assert fusion.fit_weight([lost] * 50, 0.45) == 0.45
