"""Gradients of the shared query map on embeddings that were made before.

The loss of one example is InfoNCE (van den Oord et al., arXiv 1807.03748, equation 4) on cosines,
for each positive by itself and averaged over them:

    -1/P sum_i log( e^(s_i/tau) / (e^(s_i/tau) + sum_j e^(s_j/tau)) )

with s = cosine(q', passage), i over the P positives, j over the example's own and the public
negatives; no other positive, and no example beside it, is in the denominator.

Row independence: a subject's row is a function of its own examples, the plan's public inputs
(basis, negatives, terms) and the plan's W, to the last bit. A subject's examples are put in order
of their ids, cut at public limits and computed in arrays that hold nothing of another subject, so
that erasing one subject changes no other row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.embedding import Vectors
from retrieval.query_map import check_basis
from retrieval.training_terms import MapTerms

Reals = NDArray[np.float64]

# Examples whose passages are in memory together, in float64.
_TOGETHER = 64


@dataclass(frozen=True, eq=False, slots=True)
class MapExample:
    """One question with passages of one subject, as unit vectors.

    Values are not looked at: a row that they spoil is for the encoder to zero, since refusing it
    here would tell that it was there.

    Attributes:
        example_id: fixes the example's place among those of its subject.
        question: shape (d,), float32, as embedded, not mapped.
        positives: shape (p, d), float32, p >= 1: passages that answer the question.
        negatives: shape (n, d), float32: passages of the same subject that do not; n may be 0.

    Raises:
        ValueError: the shapes are not as above.
    """

    example_id: bytes
    question: Vectors
    positives: Vectors
    negatives: Vectors

    def __post_init__(self) -> None:
        shapes = (self.question.shape, self.positives.shape, self.negatives.shape)
        if [len(shape) for shape in shapes] != [1, 2, 2] or len({s[-1] for s in shapes}) != 1:
            raise ValueError(
                "an example has a question of shape (d,), positives (p, d) and negatives (n, d),"
                f" not {', '.join(map(str, shapes))}"
            )
        if len(self.positives) == 0:
            raise ValueError("an example has at least one positive passage")


class MapTrainer:
    """Trains a query map for one plan: sums over examples in float64 and closed form."""

    def __init__(self, basis: Vectors, public_negatives: Vectors, terms: MapTerms) -> None:
        """
        Args:
            basis: A, shape (d, r), see `QueryMap`.
            public_negatives: shape (m, d), from the plan; m may be 0.

        Raises:
            ValueError: basis or negatives are not of these shapes.
        """
        check_basis(basis)
        if public_negatives.ndim != 2 or public_negatives.shape[1] != basis.shape[0]:
            raise ValueError(
                f"public negatives are of shape (m, {basis.shape[0]}), not {public_negatives.shape}"
            )
        self._basis = basis.astype(np.float64)
        self._public = public_negatives.astype(np.float64)
        self._terms = terms

    def subject_gradients(
        self,
        subjects: Iterable[tuple[bytes, Sequence[MapExample]]],
        weights: NDArray[np.floating],
    ) -> Iterator[tuple[bytes, Reals]]:
        """Each subject's gradient of the loss by W, summed over its examples (modes with subjects).

        Args:
            subjects: pairs of a subject's id and its examples.
            weights: the plan's W, shape (r, d).

        Yields:
            Pairs of a subject's id and its row: float64, shape (r * d,), W's coordinates row by
            row; not clipped, and not finite where the examples are not. The server descends along
            it.

        Raises:
            ValueError: weights or an example are not of these shapes.
        """
        start = self._checked(weights)
        for subject_id, examples in subjects:
            own = _in_order(examples)[: self._terms.max_examples_per_subject]
            yield subject_id, self._gradient(own, start).ravel()

    def local_update(
        self, examples: Sequence[MapExample], weights: NDArray[np.floating], seed: int
    ) -> Reals:
        """What `local_steps` of gradient descent on a node's examples add to W (mode `client`).

        Args:
            examples: of the whole node; none at all give zeros.
            weights: the plan's W, shape (r, d).
            seed: chooses the examples of each step where the node has more than `local_batch`.

        Returns:
            W_K - W_0, float64, shape (r * d,), row by row; the server adds it, clipped and
            averaged.

        Raises:
            ValueError: as `subject_gradients`.
        """
        terms = self._terms
        start = self._checked(weights)
        update = np.zeros_like(start)
        ordered = _in_order(examples)
        size = min(terms.local_batch, len(ordered))
        drawn = np.random.default_rng(seed)
        for _ in range(terms.local_steps if ordered else 0):
            batch = [ordered[i] for i in sorted(drawn.choice(len(ordered), size, replace=False))]
            gradient = self._gradient(batch, start + update)
            gradient *= terms.learning_rate / size
            update -= gradient
        return update.ravel()

    def average_loss(self, examples: Sequence[MapExample], weights: NDArray[np.floating]) -> float:
        """Mean loss of the examples, for a node's own eyes: it is a statistic of private data.

        Raises:
            ValueError: there are none, or as `subject_gradients`.
        """
        if not examples:
            raise ValueError("the average loss needs at least one example")
        checked = self._checked(weights)
        starts = range(0, len(examples), _TOGETHER)
        total = sum(self._evaluate(examples[i : i + _TOGETHER], checked)[0] for i in starts)
        return total / len(examples)

    def _checked(self, weights: NDArray[np.floating]) -> Reals:
        if weights.shape != self._basis.shape[::-1]:
            raise ValueError(
                f"the weights of this map are of shape {self._basis.shape[::-1]}, not"
                f" {weights.shape}"
            )
        return weights.astype(np.float64)

    def _gradient(self, examples: Sequence[MapExample], weights: Reals) -> Reals:
        """Summed over the examples, shape (r, d)."""
        starts = range(0, len(examples), _TOGETHER)
        parts = (self._evaluate(examples[i : i + _TOGETHER], weights)[1] for i in starts)
        total = next(parts) if examples else np.zeros_like(weights)
        for part in parts:
            total += part
        return total

    @np.errstate(all="ignore")
    def _evaluate(self, examples: Sequence[MapExample], weights: Reals) -> tuple[float, Reals]:
        """Loss and gradient, summed. Axes: e examples, p positives, n negatives, d, r."""
        terms = self._terms
        questions = self._questions(examples)
        positives, is_positive = self._padded([x.positives for x in examples], terms.max_positives)
        negatives, is_negative = self._padded([x.negatives for x in examples], terms.max_negatives)

        projected = questions @ self._basis
        moved = questions + projected @ weights
        norms = np.linalg.norm(moved, axis=1, keepdims=True)
        unit = moved / norms

        to_positives = (positives @ unit[:, :, None])[:, :, 0] / terms.temperature
        to_own = (negatives @ unit[:, :, None])[:, :, 0] / terms.temperature
        to_public = unit @ self._public.T / terms.temperature
        to_negatives = np.hstack([np.where(is_negative, to_own, -np.inf), to_public])
        # log of the sum of e^s over the negatives, -inf if there are none.
        against = np.logaddexp.reduce(to_negatives, axis=1, initial=-np.inf)[:, None]
        together = np.logaddexp(to_positives, against)

        share = is_positive / is_positive.sum(axis=1, keepdims=True)
        loss = float(np.sum(share * (together - to_positives)))

        # dL/ds of a positive is minus the probability that its negatives have beside it; those
        # share it among them by their softmax.
        pull = share * np.exp(against - together)
        push = pull.sum(axis=1, keepdims=True) * np.exp(
            to_negatives - np.where(np.isneginf(against), 0.0, against)
        )
        own = push[:, : negatives.shape[1]]
        by_unit = (
            (own[:, None, :] @ negatives)[:, 0]
            - (pull[:, None, :] @ positives)[:, 0]
            + push[:, negatives.shape[1] :] @ self._public
        ) / terms.temperature
        # Through the normalisation only what is at right angles to q' gets.
        by_moved = (by_unit - np.sum(by_unit * unit, axis=1, keepdims=True) * unit) / norms
        return loss, projected.T @ by_moved

    def _questions(self, examples: Sequence[MapExample]) -> Reals:
        dimension = self._basis.shape[0]
        for example in examples:
            if example.question.shape != (dimension,):
                raise ValueError(
                    f"a question of this map has {dimension} numbers, not {example.question.size}"
                )
        return np.array([x.question for x in examples], np.float64).reshape(-1, dimension)

    def _padded(self, passages: Sequence[Vectors], most: int) -> tuple[Reals, NDArray[np.bool_]]:
        """The first `most` of each, shape (e, p, d) with p no larger than needed, and where there
        is one, (e, p)."""
        width = min(most, max(map(len, passages)))
        together = np.zeros((len(passages), width, self._basis.shape[0]))
        there = np.zeros((len(passages), width), np.bool_)
        for place, own in enumerate(passages):
            kept = own[:most]
            together[place, : len(kept)] = kept
            there[place, : len(kept)] = True
        return together, there


def _in_order(examples: Sequence[MapExample]) -> list[MapExample]:
    """By id. Raises ValueError if two have the same, since their order would then be chance."""
    ordered = sorted(examples, key=lambda example: example.example_id)
    if len({example.example_id for example in ordered}) < len(ordered):
        raise ValueError("two examples of one subject or node have the same id")
    return ordered
