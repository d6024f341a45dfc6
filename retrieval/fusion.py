"""Dense and lexical scores of the same passages, mixed into one ranking.

score = (1 - w) * cosine + w * bm25 / max(bm25), both parts in [0, 1]. No fixed weight w serves
every collection, so each assistant fits its own (`fit_weight`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DEFAULT_WEIGHT = 0.3
WEIGHTS = tuple(step / 20 for step in range(21))
# Fewer questions than this say less than the default does.
FEWEST_QUESTIONS = 20
CUT = 10


@dataclass(frozen=True, slots=True)
class Candidates:
    """The passages considered for one question, arrays of one length.

    `ids` are the passages', `documents` say which belong to one document, `dense` are cosines,
    `lexical` BM25 scores (0 where no word is in common).
    """

    ids: NDArray[np.int64]
    documents: NDArray[np.str_]
    dense: Floats
    lexical: Floats


@dataclass(frozen=True, slots=True)
class Labelled:
    """A question's candidates and the documents that answer it."""

    candidates: Candidates
    relevant: frozenset[str]


def mix(candidates: Candidates, weight: float) -> Floats:
    """The fused scores of the candidates, each in [0, 1]."""
    return (1 - weight) * np.maximum(candidates.dense, 0) + weight * _scaled(candidates)


def order(candidates: Candidates, scores: Floats) -> NDArray[np.intp]:
    """Places of the candidates, best first; ties by id, so that a ranking is the same each time."""
    return np.lexsort((candidates.ids, -scores))


def rank_documents(candidates: Candidates, scores: Floats, k: int = CUT) -> list[str]:
    """The `k` best documents, each by its best passage."""
    ranked = candidates.documents[order(candidates, scores)]
    return list(dict.fromkeys(ranked.tolist()))[:k]


def fit_weight(questions: Sequence[Labelled], default: float = DEFAULT_WEIGHT) -> float:
    """The weight with the highest mean reciprocal rank of documents at 10 on labelled questions.

    `default` is kept where there are fewer than FEWEST_QUESTIONS; between equals the weight
    nearest to it wins.
    """
    if len(questions) < FEWEST_QUESTIONS:
        return default
    total = np.sum([_reciprocal_ranks(question) for question in questions], axis=0)
    return max(
        zip(total, WEIGHTS, strict=True),
        key=lambda pair: (round(float(pair[0]), 9), -abs(pair[1] - default)),
    )[1]


def _reciprocal_ranks(question: Labelled) -> Floats:
    """1 / the place of the first relevant document for each of WEIGHTS, 0 beyond CUT."""
    candidates, relevant = question.candidates, question.relevant
    if relevant.isdisjoint(candidates.documents.tolist()):
        return np.zeros(len(WEIGHTS))
    rankings = (rank_documents(candidates, mix(candidates, weight)) for weight in WEIGHTS)
    return np.array(
        [
            next((1 / place for place, name in enumerate(ranked, 1) if name in relevant), 0.0)
            for ranked in rankings
        ]
    )


def _scaled(candidates: Candidates) -> Floats:
    highest = candidates.lexical.max(initial=0.0)
    return candidates.lexical / highest if highest > 0 else np.zeros_like(candidates.lexical)
