"""The query map's gradients against autograd, row independence to the bit, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privacy.records import from_json, to_json
from retrieval.map_training import (
    MapExample,
    MapTerms,
    MapTrainer,
)
from retrieval.query_map import QueryMap, random_basis
from tests.nodes import unit_vectors

D, R = 32, 6
TERMS = MapTerms(max_examples_per_subject=4, max_positives=2, max_negatives=3)
BASIS = random_basis(D, R, 0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def random_example(
    rng: np.random.Generator, example_id: bytes, positives: int = 2, negatives: int = 3
) -> MapExample:
    return MapExample(
        example_id,
        unit_vectors(rng, 1, D)[0],
        unit_vectors(rng, positives, D),
        unit_vectors(rng, negatives, D),
    )


def random_weights(rng: np.random.Generator) -> np.ndarray:
    return (0.3 * rng.standard_normal((R, D))).astype(np.float32)


def loss_in_torch(
    example: MapExample, weights: torch.Tensor, public: np.ndarray, temperature: float
) -> torch.Tensor:
    """torch's own cross entropy, once for each positive."""
    question = torch.tensor(example.question, dtype=torch.float64)
    basis = torch.tensor(BASIS, dtype=torch.float64)
    mapped = torch.nn.functional.normalize(question + question @ basis @ weights, dim=0)
    negatives = torch.tensor(np.vstack([example.negatives, public]), dtype=torch.float64)
    losses = []
    for positive in torch.tensor(example.positives, dtype=torch.float64):
        logits = torch.vstack([positive[None], negatives]) @ mapped / temperature
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(0)))
    return torch.stack(losses).mean()


class TestGradient:
    @pytest.mark.parametrize(
        ("positives", "negatives", "public"),
        [(1, 0, 5), (2, 3, 0), (1, 1, 1), (2, 2, 7), (1, 0, 0)],
    )
    def test_autograd_agrees(
        self, rng: np.random.Generator, positives: int, negatives: int, public: int
    ) -> None:
        examples = [random_example(rng, bytes([i]), positives, negatives) for i in range(3)]
        shared = unit_vectors(rng, public, D).reshape(-1, D)
        start = random_weights(rng)
        ((_, row),) = MapTrainer(BASIS, shared, TERMS).subject_gradients([(b"s", examples)], start)
        weights = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        losses = [loss_in_torch(x, weights, shared, TERMS.temperature) for x in examples]
        torch.stack(losses).sum().backward()
        assert weights.grad is not None
        np.testing.assert_allclose(row, weights.grad.numpy().ravel(), rtol=1e-9, atol=1e-12)
        assert MapTrainer(BASIS, shared, TERMS).average_loss(examples, start) == pytest.approx(
            torch.stack(losses).mean().item(), rel=1e-12, abs=1e-15
        )

    def test_what_is_above_the_limits_is_left_out(self, rng: np.random.Generator) -> None:
        """The first by id, and the first passages, are what a subject of just those would give."""
        public = unit_vectors(rng, 4, D)
        many = [random_example(rng, bytes([9 - i]), 5, 6) for i in range(7)]
        few = [
            MapExample(x.example_id, x.question, x.positives[:2], x.negatives[:3])
            for x in many
            if x.example_id < bytes([7])
        ]
        start = random_weights(rng)
        rows = MapTrainer(BASIS, public, TERMS).subject_gradients(
            [(b"m", many), (b"f", few)], start
        )
        (_, first), (_, second) = rows
        assert len(few) == TERMS.max_examples_per_subject
        assert first.tobytes() == second.tobytes()

    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
    def test_no_value_raises(self, rng: np.random.Generator, value: float) -> None:
        """A spoilt row reaches the encoder, which zeroes it; its neighbour is as without it."""
        spoilt, sound = random_example(rng, b"x"), random_example(rng, b"y")
        spoilt.question[:] = value
        public, start = unit_vectors(rng, 4, D), random_weights(rng)
        rows = dict(
            MapTrainer(BASIS, public, TERMS).subject_gradients(
                [(b"a", [spoilt]), (b"b", [sound])], start
            )
        )
        assert not np.isfinite(rows[b"a"]).all()
        ((_, alone),) = MapTrainer(BASIS, public, TERMS).subject_gradients([(b"b", [sound])], start)
        assert rows[b"b"].tobytes() == alone.tobytes()
        assert np.isfinite(alone).all()

    def test_a_subject_without_examples_gives_zeros(self, rng: np.random.Generator) -> None:
        start, public = random_weights(rng), unit_vectors(rng, 2, D)
        ((_, row),) = MapTrainer(BASIS, public, TERMS).subject_gradients([(b"s", [])], start)
        assert row.shape == (R * D,)
        assert not row.any()


@given(st.data())
def test_erasing_a_subject_changes_no_bit_of_another_row(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    subjects = [
        (
            bytes([i]),
            [
                random_example(rng, bytes([j]), rng.integers(1, 4), rng.integers(0, 5))
                for j in range(rng.integers(0, 7))
            ],
        )
        for i in range(data.draw(st.integers(2, 6)))
    ]
    public, start = unit_vectors(rng, 5, D), random_weights(rng)
    before = dict(MapTrainer(BASIS, public, TERMS).subject_gradients(subjects, start))
    erased = data.draw(st.sampled_from(subjects))
    left = data.draw(st.permutations([s for s in subjects if s is not erased]))
    shuffled = [(name, data.draw(st.permutations(own))) for name, own in left]
    after = dict(MapTrainer(BASIS, public, TERMS).subject_gradients(shuffled, start))
    assert after.keys() == before.keys() - {erased[0]}
    for name, row in after.items():
        assert row.tobytes() == before[name].tobytes()


class TestLocalUpdate:
    def test_one_step_is_the_mean_gradient(self, rng: np.random.Generator) -> None:
        examples = [random_example(rng, bytes([i])) for i in range(4)]
        public, start = unit_vectors(rng, 3, D), random_weights(rng)
        terms = MapTerms(local_steps=1, learning_rate=0.7)
        ((_, row),) = MapTrainer(BASIS, public, terms).subject_gradients([(b"s", examples)], start)
        update = MapTrainer(BASIS, public, terms).local_update(examples, start, seed=1)
        np.testing.assert_allclose(update, -0.7 * row / 4, rtol=1e-9, atol=1e-15)

    def test_more_steps_lower_the_loss_further(self, rng: np.random.Generator) -> None:
        examples = [random_example(rng, bytes([i])) for i in range(90)]
        public, start = unit_vectors(rng, 3, D), np.zeros((R, D), np.float32)
        losses = []
        for steps in (1, 4, 16):
            terms = MapTerms(local_steps=steps, learning_rate=0.1)
            update = MapTrainer(BASIS, public, terms).local_update(examples, start, seed=1)
            losses.append(
                MapTrainer(BASIS, public, terms).average_loss(examples, update.reshape(R, D))
            )
        zero = MapTrainer(BASIS, public, TERMS).average_loss(examples, start)
        assert zero > losses[0] > losses[1] > losses[2]

    def test_a_seed_repeats_the_draws(self, rng: np.random.Generator) -> None:
        examples = [random_example(rng, bytes([i])) for i in range(20)]
        public, start = unit_vectors(rng, 3, D), random_weights(rng)
        terms = MapTerms(local_batch=5)

        def update(order: list[MapExample], seed: int) -> bytes:
            return MapTrainer(BASIS, public, terms).local_update(order, start, seed).tobytes()

        assert update(examples, 1) == update(examples[::-1], 1)
        assert update(examples, 1) != update(examples, 2)

    def test_an_empty_node_adds_nothing(self, rng: np.random.Generator) -> None:
        public = unit_vectors(rng, 3, D)
        update = MapTrainer(BASIS, public, TERMS).local_update([], random_weights(rng), seed=1)
        assert update.shape == (R * D,)
        assert not update.any()


class Planted:
    """Nodes whose questions are their passages, rotated within the space that the basis spans."""

    def __init__(self, rng: np.random.Generator) -> None:
        turn = np.linalg.qr(rng.standard_normal((R, R))).Q
        self._rotation = np.eye(D) + BASIS @ (turn - np.eye(R)) @ BASIS.T
        self._rng = rng
        self.public = self.passages(20)

    def passages(self, count: int) -> np.ndarray:
        """Unit vectors, most of whose length is in the space that is rotated."""
        raw = self._rng.standard_normal((count, R)) @ BASIS.T
        raw += 0.15 * self._rng.standard_normal((count, D))
        return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)

    def questions(self, passages: np.ndarray) -> np.ndarray:
        return (passages @ self._rotation.T).astype(np.float32)

    def subject(self) -> list[MapExample]:
        passages = self.passages(4)
        asked = self.questions(passages)
        return [
            MapExample(bytes([i]), asked[i], passages[i : i + 1], np.delete(passages, i, axis=0))
            for i in range(4)
        ]


def mean_reciprocal_rank(weights: np.ndarray, questions: np.ndarray, passages: np.ndarray) -> float:
    """Question i is answered by passage i."""
    mapped = QueryMap(BASIS, weights.reshape(R, D).astype(np.float32)).apply(questions)
    cosines = mapped @ passages.T
    ranks = (cosines >= np.diag(cosines)[:, None]).sum(axis=1)
    return float(np.mean(1 / ranks))


def test_averaged_gradients_and_updates_learn_a_planted_rotation(rng: np.random.Generator) -> None:
    """By W = A (turn^-1 - 1) A^T, which is on this basis, every held-back question is answered."""
    world = Planted(rng)
    nodes = [[world.subject() for _ in range(3)] for _ in range(12)]
    held_back = world.passages(60)
    asked = world.questions(held_back)
    assert mean_reciprocal_rank(np.zeros((R, D)), asked, held_back) < 0.4

    descended = np.zeros(R * D)
    for _ in range(60):
        subjects = [(bytes([i]), s) for i, s in enumerate(s for node in nodes for s in node)]
        current = descended.reshape(R, D)
        rows = [
            r
            for _, r in MapTrainer(BASIS, world.public, TERMS).subject_gradients(subjects, current)
        ]
        descended -= 0.05 * np.mean(rows, axis=0)
    assert mean_reciprocal_rank(descended, asked, held_back) > 0.9

    averaged = np.zeros(R * D)
    for _ in range(12):
        updates = []
        for node in nodes:
            own = [
                MapExample(bytes([i, *x.example_id]), x.question, x.positives, x.negatives)
                for i, subject in enumerate(node)
                for x in subject
            ]
            terms = MapTerms(learning_rate=0.2)
            current = averaged.reshape(R, D)
            updates.append(
                MapTrainer(BASIS, world.public, terms).local_update(own, current, seed=3)
            )
        averaged += np.mean(updates, axis=0)
    assert mean_reciprocal_rank(averaged, asked, held_back) > 0.9


class TestBorders:
    def test_terms_come_back_from_json(self) -> None:
        assert from_json(MapTerms, to_json(TERMS)) == TERMS

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("temperature", 0.0),
            ("temperature", float("nan")),
            ("learning_rate", float("inf")),
            ("learning_rate", -1.0),
            ("local_steps", 0),
            ("max_positives", 1.5),
            ("max_negatives", True),
            ("local_batch", -2),
            ("max_examples_per_subject", "4"),
        ],
    )
    def test_senseless_terms_are_refused(self, name: str, value: object) -> None:
        with pytest.raises(ValueError, match=name):
            MapTerms(**{name: value})

    def test_shapes_that_do_not_fit_are_refused(self, rng: np.random.Generator) -> None:
        good = unit_vectors(rng, 3, D)
        with pytest.raises(ValueError, match="question of shape"):
            MapExample(b"", good, good, good)
        with pytest.raises(ValueError, match="question of shape"):
            MapExample(b"", good[0], good[:, 1:], good)
        with pytest.raises(ValueError, match="at least one positive"):
            MapExample(b"", good[0], good[:0], good)
        start, example = random_weights(rng), random_example(rng, b"x")
        with pytest.raises(ValueError, match="weights of this map"):
            MapTrainer(BASIS, good, TERMS).local_update([example], start.T, seed=0)
        with pytest.raises(ValueError, match="public negatives"):
            MapTrainer(BASIS, good[:, 1:], TERMS).local_update([example], start, seed=0)
        with pytest.raises(ValueError, match="has 32 numbers"):
            small = MapExample(b"", good[0, 1:], good[:, 1:], good[:, 1:])
            MapTrainer(BASIS, good, TERMS).local_update([small], start, seed=0)
        with pytest.raises(ValueError, match="same id"):
            MapTrainer(BASIS, good, TERMS).local_update([example, example], start, seed=0)
        with pytest.raises(ValueError, match="at least one example"):
            MapTrainer(BASIS, good, TERMS).average_loss([], start)
