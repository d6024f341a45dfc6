"""Vectors of a data set's texts, made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from retrieval.embedding import Embedder, Vectors
from retrieval.vector_cache import VectorCache

EMBEDDED_AT_ONCE = 512
Progress = Callable[[str, int, int], None]


class KnownVectors:
    """Looks vectors up; an unknown text raises KeyError."""

    def __init__(self, texts: Sequence[str], vectors: Vectors) -> None:
        """`vectors`: shape (n, d), float32, in the order of `texts`."""
        self._places = {text: place for place, text in enumerate(texts)}
        self._vectors = vectors

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), d), float32."""
        return self._vectors[[self._places[text] for text in texts]]


def embedded(
    texts: Sequence[str],
    embedder: Embedder,
    cache: VectorCache,
    progress: Progress = lambda stage, done, total: None,
) -> KnownVectors:
    """The texts' vectors, from the cache where it has them.

    They are embedded in batches, which moves last bits; a node embeds each text by itself.
    """
    parts = [np.empty((0, embedder.dimension), np.float32)]
    for start in range(0, len(texts), EMBEDDED_AT_ONCE):
        some = texts[start : start + EMBEDDED_AT_ONCE]
        parts.append(cache.vectors(some, embedder.passages))
        progress("texts embedded", start + len(some), len(texts))
    return KnownVectors(texts, np.concatenate(parts))
