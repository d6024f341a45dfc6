"""Documents put into the store of an assistant, with vectors at random."""

from __future__ import annotations

import numpy as np

from retrieval.embedding import Vectors
from retrieval.store import AssistantStore, NewDocument
from tests.nodes import unit_vectors


def vectors(n: int, seed: int = 0) -> Vectors:
    return unit_vectors(np.random.default_rng(seed), n)


def put(store: AssistantStore, new: NewDocument, seed: int = 0) -> str:
    with store.changing() as change:
        return change.put(new, vectors(len(new.passages), seed)).document_id
