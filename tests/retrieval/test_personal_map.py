"""The personal query map against autograd, on planted material, and on what must not change it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, normalize

from retrieval.embedding import Vectors
from retrieval.examples import FOLDS
from retrieval.personal_map import (
    MIN_EXAMPLES,
    TEMPERATURE,
    Material,
    _is_clear,
    _Loss,
    train,
)
from retrieval.query_map import QueryMap, random_basis

DIMENSION, RANK = 24, 8
BASIS = random_basis(DIMENSION, RANK, 7)
NOTHING = np.zeros((RANK, DIMENSION), np.float32)


def unit(vectors: NDArray[np.floating]) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Vectors = (vectors / norms).astype(np.float32)
    return found


def planted(questions: int, *, seed: int = 0, strength: float = 2.0) -> Material:
    """Each question answers itself, once a hidden map of this basis has moved it."""
    drawn = np.random.default_rng(seed)
    asked = unit(drawn.standard_normal((questions, DIMENSION)))
    hidden = strength * drawn.standard_normal((RANK, DIMENSION)).astype(np.float32)
    passages = unit(asked + asked @ BASIS @ hidden)
    others = unit(drawn.standard_normal((questions, DIMENSION)))
    return Material(
        passages=np.vstack([passages, others]),
        questions=asked,
        positives=tuple(np.array([i]) for i in range(questions)),
        negatives=(np.array([], np.int64),) * questions,
        folds=np.arange(questions) % FOLDS,
    )


def ranks(material: Material, weights: Vectors) -> float:
    """MRR@10 by sorting, over all questions."""
    scores = QueryMap(BASIS, weights).apply(material.questions) @ material.passages.T
    found = []
    for row, own in zip(scores, material.positives, strict=True):
        order = [int(place) for place in np.argsort(-row)[:10]]
        found.append(next((1 / (r + 1) for r, place in enumerate(order) if place in own), 0.0))
    return float(np.mean(found))


@given(st.integers(0, 2**32 - 1), st.floats(0, 5))
def test_loss_and_gradient_are_those_of_autograd(seed: int, strength: float) -> None:
    """torch's cross entropy of each positive among itself and all that does not answer."""
    drawn = np.random.default_rng(seed)
    material = replace(
        planted(6, seed=seed),
        positives=tuple(drawn.choice(12, drawn.integers(1, 4), replace=False) for _ in range(6)),
    )
    shared = drawn.standard_normal((RANK, DIMENSION)).astype(np.float32)
    weights = drawn.standard_normal((RANK, DIMENSION))
    loss = _Loss(material, np.arange(6), BASIS, shared)
    value, gradient = loss(weights.ravel(), strength)

    own = torch.tensor(weights, requires_grad=True)
    asked = torch.tensor(material.questions, dtype=torch.float64)
    whole = torch.tensor(shared, dtype=torch.float64) + own
    moved = normalize(asked + asked @ torch.tensor(BASIS, dtype=torch.float64) @ whole)
    scores = moved @ torch.tensor(material.passages, dtype=torch.float64).T / TEMPERATURE
    wanted = strength * (own**2).sum()
    for row, answers in zip(scores, material.positives, strict=True):
        rest = [i for i in range(len(row)) if i not in answers]
        for answer in answers:
            among = torch.cat([row[answer : answer + 1], row[rest]])[None]
            wanted = wanted + cross_entropy(among, torch.tensor([0])) / len(answers)
    wanted.backward()  # type: ignore[no-untyped-call]
    assert own.grad is not None
    assert value == pytest.approx(wanted.item(), rel=1e-3, abs=1e-3)
    np.testing.assert_allclose(
        gradient.reshape(weights.shape), own.grad.numpy(), rtol=1e-2, atol=1e-2
    )


def test_what_the_examples_share_is_learnt() -> None:
    material = planted(60)
    found = train(material, BASIS, None)
    assert found.strength is not None
    assert found.before == pytest.approx(ranks(material, NOTHING))
    assert found.after > found.before + 0.1
    assert ranks(material, found.weights) > found.after


def test_it_is_added_to_the_shared_map() -> None:
    """With a shared map that knows most of it already, less is left to learn."""
    material = planted(60)
    whole = train(material, BASIS, None).weights
    shared = 0.3 * whole
    found = train(material, BASIS, shared)
    assert found.strength is not None
    assert found.before == pytest.approx(ranks(material, shared))
    assert found.after > found.before
    assert np.linalg.norm(found.weights) < np.linalg.norm(whole)
    assert ranks(material, shared + found.weights) > found.before


def test_nothing_is_learnt_where_the_answers_are_the_nearest_already() -> None:
    material = planted(20, strength=0.0)
    found = train(material, BASIS, None)
    assert (found.before, found.after) == (1.0, 1.0)
    assert ranks(material, found.weights) == 1.0


def test_noise_is_not_learnt() -> None:
    """Answers at random: whatever is learnt from them does not help those that were held back."""
    kept = 0
    for seed in range(10):
        material = planted(15, seed=seed)
        mixed = np.random.default_rng(seed).permutation(30)[:15]
        found = train(replace(material, positives=tuple(np.array([i]) for i in mixed)), BASIS, None)
        kept += found.strength is not None
        if found.strength is None:
            assert not found.weights.any()
    assert kept <= 4  # one in six are expected to gain a standard error


@given(st.integers(MIN_EXAMPLES, 300), st.integers(2, 11), st.booleans())
def test_one_question_alone_is_no_gain_and_two_alike_are(n: int, rank: int, two: bool) -> None:
    """Of n equal numbers but for k that are g: mean k g / n, and its error is smaller for k > 1."""
    gains = np.zeros(n)
    gains[: 1 + two] = 1 - (1 / rank if rank <= 10 else 0)
    assert _is_clear(gains) == two
    assert not _is_clear(-gains) and not _is_clear(np.zeros(n))
    gains[-1] = np.nan
    assert not _is_clear(gains)


def test_the_same_material_gives_the_same_bytes() -> None:
    first, second = (train(planted(20), BASIS, None).weights for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_a_passage_marked_as_wrong_is_pushed_away_more() -> None:
    material = planted(10)
    wrong = np.array([15])
    marked = replace(material, negatives=(wrong, *material.negatives[1:]))

    def similarity(weights: Vectors) -> float:
        moved = QueryMap(BASIS, weights).apply(material.questions[:1])
        return float((moved @ material.passages[wrong].T).item())

    plain, told = (train(one, BASIS, None).weights for one in (material, marked))
    assert similarity(told) < similarity(plain)


def test_progress_ends_at_the_whole() -> None:
    told: list[tuple[int, int]] = []
    train(planted(20), BASIS, None, lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(ValueError, match=f"needs {MIN_EXAMPLES} examples, and there are 4"):
        train(planted(4), BASIS, None)


def test_shared_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        train(planted(5), BASIS, NOTHING[:2])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"folds": np.full(6, FOLDS)}, "folds"),
        ({"positives": (np.array([], np.int64),) * 6}, "at least one passage"),
        ({"negatives": ()}, "one for each question"),
        ({"questions": np.zeros((6, 3), np.float32)}, "shapes"),
    ],
)
def test_material_that_does_not_fit_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(planted(6), **wrong)  # type: ignore[arg-type]
