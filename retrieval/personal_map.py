"""The personal query map of one assistant: trained on its own examples, pulled to the shared one.

The map that serves is q' = normalise(q + q A (W_shared + W)) with the basis A of the shared map, so
that both are added exactly (`query_map`). W minimises, over the m examples,

    sum InfoNCE + strength |W|^2

where InfoNCE (van den Oord et al., arXiv 1807.03748, equation 4) has each relevant passage by
itself against the assistant's other passages. W = 0 is the shared map alone. The strength, and
whether W is of use at all, is chosen by cross-validation over folds that a keyed hash made: each
example is judged once by a map that has not seen it.

Nothing is drawn at random: the same material gives the same bytes on one machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from retrieval.embedding import Vectors
from retrieval.examples import FOLDS
from retrieval.query_map import check_basis

Rows = NDArray[np.int64]
Progress = Callable[[int, int], None]

MIN_EXAMPLES = 5
STRENGTHS = (12.0, 6.0, 3.0, 1.5)
"""From nearly the shared map on; chosen with TEMPERATURE and STEPS on medquad's `dev` questions."""
TEMPERATURE = 0.05
STEPS = 15
"""Of L-BFGS for each strength; the next one goes on from there."""
CUT = 10
CAUTION = 1.01
"""Standard errors by which the held-back questions must gain, or the shared map stays alone: a gain
of one question alone is exactly one, and is not enough. Questions count as independent."""


@dataclass(frozen=True, eq=False, slots=True)
class Material:
    """What an assistant's owner taught it, as unit vectors.

    Attributes:
        passages: shape (n, d), float32, of the assistant.
        questions: shape (m, d), float32, as embedded, not mapped.
        positives: of each question the rows of `passages` that answer it, at least one.
        negatives: of each question rows that were marked as not answering it.
        folds: shape (m,), 0 to `FOLDS` - 1; follows from the question alone.

    Raises:
        ValueError: the shapes are not as above.
    """

    passages: Vectors
    questions: Vectors
    positives: tuple[Rows, ...]
    negatives: tuple[Rows, ...]
    folds: Rows

    def __post_init__(self) -> None:
        count = len(self.questions)
        if self.passages.ndim != 2 or self.questions.shape != (count, self.passages.shape[1]):
            raise ValueError("passages and questions are of shapes (n, d) and (m, d)")
        if not len(self.positives) == len(self.negatives) == len(self.folds) == count:
            raise ValueError("positives, negatives and folds are one for each question")
        if not all(rows.size for rows in self.positives):
            raise ValueError("a question has at least one passage that answers it")
        if count and not (self.folds.min() >= 0 and self.folds.max() < FOLDS):
            raise ValueError(f"folds are numbers from 0 to {FOLDS - 1}")


@dataclass(frozen=True, eq=False, slots=True)
class PersonalMap:
    """What training made of it.

    Attributes:
        weights: W, shape (r, d), float32; zero if none was clearly better than the shared map.
        strength: that was chosen; None if none was.
        before, after: MRR@10 among the assistant's passages, each question in the fold that was
            held back, with the shared map alone and with W trained on the other folds.
    """

    weights: Vectors
    strength: float | None
    before: float
    after: float


def train(
    material: Material,
    basis: Vectors,
    shared: Vectors | None,
    progress: Progress = lambda done, total: None,
) -> PersonalMap:
    """Choose the strength on held-back folds, then train with it on all examples.

    Args:
        basis: A, shape (d, r), see `QueryMap`.
        shared: W of the shared map on this basis, shape (r, d); None if there is none.
        progress: told how many of how many fits are done.

    Raises:
        ValueError: there are fewer than `MIN_EXAMPLES` questions, or basis and `shared` do not fit.
    """
    check_basis(basis)
    if len(material.questions) < MIN_EXAMPLES:
        raise ValueError(
            f"a personal adapter needs {MIN_EXAMPLES} examples, and there are"
            f" {len(material.questions)}"
        )
    start = np.zeros(basis.shape[::-1], np.float32) if shared is None else shared
    if start.shape != basis.shape[::-1]:
        raise ValueError(f"the shared weights have shape {start.shape}, not {basis.shape[::-1]}")
    held_back = [fold for fold in range(FOLDS) if (material.folds == fold).any()]
    total = (len(held_back) + 1) * len(STRENGTHS)
    unchanged = np.zeros_like(start)
    # Of each strength, and last of no change: the summed loss, and each question's reciprocal rank.
    losses = np.zeros(len(STRENGTHS) + 1)
    ranks = np.zeros((len(losses), len(material.questions)))
    for number, fold in enumerate(held_back):
        own = np.flatnonzero(material.folds == fold)
        tested = _Loss(material, own, basis, start)
        seen = np.flatnonzero(material.folds != fold)
        for place, weights in enumerate((*_fits(material, seen, basis, start), unchanged)):
            losses[place] += tested.value(weights)
            ranks[place, own] = _reciprocal_ranks(material, own, basis, start + weights)
            progress(number * len(STRENGTHS) + min(place + 1, len(STRENGTHS)), total)
    # The loss tells strengths apart that few questions rank alike.
    best = int(losses[:-1].argmin())
    before, after = float(ranks[-1].mean()), float(ranks[best].mean())
    if not _is_clear(ranks[best] - ranks[-1]):
        return PersonalMap(unchanged, None, before, after)
    weights = _fits(material, np.arange(len(material.questions)), basis, start)[best]
    progress(total, total)
    return PersonalMap(weights, STRENGTHS[best], before, after)


def _is_clear(gains: NDArray[np.float64]) -> bool:
    """Whether the mean of two gains and more is above zero by more than chance."""
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    return bool(gains.mean() > CAUTION * error)


def _fits(material: Material, chosen: Rows, basis: Vectors, start: Vectors) -> list[Vectors]:
    """W of each strength, trained on the chosen questions, perhaps none."""
    loss = _Loss(material, chosen, basis, start)
    found, weights = [], np.zeros(start.size)
    for strength in STRENGTHS:
        if chosen.size:
            weights = minimize(
                loss, weights, (strength,), method="L-BFGS-B", jac=True, options={"maxiter": STEPS}
            ).x
        found.append(weights.reshape(start.shape).astype(np.float32))
    return found


class _Loss:
    """The objective and its gradient by W, shape (r * d,)."""

    def __init__(self, material: Material, chosen: Rows, basis: Vectors, start: Vectors) -> None:
        self._questions = material.questions[chosen]
        self._projected = self._questions @ basis
        self._start = start
        self._passages = material.passages
        self._answering = _places([np.unique(material.positives[i]) for i in chosen])
        self._share = 1.0 / np.bincount(self._answering[0], minlength=1)[self._answering[0]]
        self._marked = _places([material.negatives[i] for i in chosen])

    def value(self, weights: Vectors) -> float:
        """Without the strength."""
        return self(weights.astype(np.float64).ravel(), 0.0)[0]

    def __call__(
        self, flat: NDArray[np.float64], strength: float
    ) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(self._start.shape)
        moved = self._questions + self._projected @ (self._start + weights.astype(np.float32))
        norms = np.linalg.norm(moved, axis=1, keepdims=True)
        unit = moved / norms
        scores = unit @ self._passages.T / np.float32(TEMPERATURE)
        answering = scores[self._answering]
        # What somebody marked as wrong counts twice, once as one of many.
        scores[self._marked] += np.log(2.0)
        scores[self._answering] = -np.inf
        # The log of the sum over all that does not answer; none at all leaves no loss.
        top = np.maximum(scores.max(axis=1, keepdims=True, initial=-np.inf), -1e30)
        raised = np.exp(scores - top)
        total = np.maximum(raised.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        rest = (top + np.log(total))[:, 0]
        gap = rest[self._answering[0]] - answering
        loss = self._share @ np.logaddexp(0.0, gap)
        # dL/ds of a positive is minus the probability of the rest beside it.
        pull = self._share / (1.0 + np.exp(-gap))
        pulled = np.bincount(self._answering[0], pull, len(unit))[:, None]
        push = raised * (pulled / total).astype(np.float32)
        push[self._answering] = -pull
        by_unit = push @ self._passages / np.float32(TEMPERATURE)
        by_moved = (by_unit - (by_unit * unit).sum(axis=1, keepdims=True) * unit) / norms
        gradient = (self._projected.T @ by_moved).astype(np.float64)
        value = float(loss) + strength * float(flat @ flat)
        return value, (gradient + 2 * strength * weights).ravel()


def _places(columns: Sequence[Rows]) -> tuple[Rows, Rows]:
    """Row and column of each, where the columns of every row are given."""
    counts = np.array([own.size for own in columns], np.int64)
    rows = np.repeat(np.arange(len(columns)), counts)
    return rows, np.concatenate([np.zeros(0, np.int64), *columns])


def _reciprocal_ranks(
    material: Material, chosen: Rows, basis: Vectors, weights: Vectors
) -> NDArray[np.float64]:
    """Of each chosen question's first relevant passage; 0 beyond `CUT`."""
    questions = material.questions[chosen]
    moved = questions + (questions @ basis) @ weights
    scores = moved @ material.passages.T
    best = [scores[row, material.positives[i]].max() for row, i in enumerate(chosen)]
    above = (scores > np.array(best)[:, None]).sum(axis=1)
    return np.where(above < CUT, 1.0 / (1.0 + above), 0.0)
