"""What runs in the training process: texts of one subject after another to rows.

Started by `federation.participant.trainer` with the number of a socket. Each text is embedded by
itself: in a batch its last bits would depend on its neighbours, and with them a subject's row on
other subjects.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from federation.adapter_spec import AdapterKind
from federation.participant.examples import Example
from federation.participant.trainer import Examples, RoundDone, RoundTask, RowDone, TrainingTask
from retrieval.embedding import Embedder, Vectors
from retrieval.map_training import MapExample, MapTerms, local_update, subject_gradients
from retrieval.query_map import basis_from_bytes

NICENESS = 19
NODE = b"node"
"""The one row of mode `client`."""


class Rows(Protocol):
    """Makes the rows of a plan."""

    def of_subjects(
        self, subjects: Examples, vector: NDArray[np.float32]
    ) -> Iterator[tuple[bytes, NDArray[np.float64]]]:
        """The gradient of each subject, shape (d,)."""
        ...

    def of_node(self, subjects: Examples, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        """The node's own update of the vector, shape (d,)."""
        ...


class MapRows:
    """Rows of a query map."""

    def __init__(self, task: TrainingTask, embedder: Embedder) -> None:
        terms = task.plan.map_terms
        if terms is None:
            raise ValueError("the plan has no terms for a query map")
        self._terms = MapTerms(
            temperature=terms.temperature,
            max_examples_per_subject=terms.examples_per_subject,
            max_positives=terms.positives,
            max_negatives=max(terms.negatives, 1),
            local_steps=terms.local_steps,
            learning_rate=terms.learning_rate,
        )
        self._negatives = terms.negatives
        self._spec = task.plan.adapter
        self._embedder = embedder
        self._basis = basis_from_bytes(task.basis)
        self._public = self._embed(task.public_texts)

    def of_subjects(
        self, subjects: Examples, vector: NDArray[np.float32]
    ) -> Iterator[tuple[bytes, NDArray[np.float64]]]:
        weights = self._weights(vector)
        for subject_id, examples in subjects:
            own = [(subject_id, self._examples(examples))]
            yield from subject_gradients(own, self._basis, weights, self._public, self._terms)

    def of_node(self, subjects: Examples, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        every = [own for _, examples in subjects for own in self._examples(examples)]
        seed = secrets.randbits(64)
        return local_update(
            every, self._basis, self._weights(vector), self._public, self._terms, seed
        )

    def _weights(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        (weights,) = self._spec.to_matrices(vector).values()
        return weights

    def _examples(self, examples: tuple[Example, ...]) -> list[MapExample]:
        """Those that count under the terms, embedded."""
        terms = self._terms
        kept = sorted(examples, key=lambda example: example.example_id)
        return [
            MapExample(
                example.example_id,
                self._embed((example.question,))[0],
                self._embed(example.positives[: terms.max_positives]),
                self._embed(example.negatives[: self._negatives]),
            )
            for example in kept[: terms.max_examples_per_subject]
        ]

    def _embed(self, texts: tuple[str, ...]) -> Vectors:
        if not texts:
            return np.empty((0, self._embedder.dimension), np.float32)
        return np.concatenate([self._embedder.questions([text]) for text in texts])


def open_rows(task: TrainingTask) -> Rows:
    """Loads the model that the plan adapts; takes seconds."""
    if task.plan.adapter.kind is AdapterKind.RETRIEVER:
        return MapRows(task, Embedder(task.model))
    raise ValueError("no generator training yet")


def main() -> None:
    os.nice(NICENESS)
    line = Connection(int(sys.argv[1]))
    task: TrainingTask = line.recv()
    rows = open_rows(task)
    while True:
        try:
            _train(line, line.recv(), task, rows)
        except (EOFError, BrokenPipeError):
            return


def _train(line: Connection, round_task: RoundTask, task: TrainingTask, rows: Rows) -> None:
    round_id, vector, subjects = round_task.round_id, round_task.vector, round_task.subjects
    if task.plan.rows_are_gradients:
        for row_id, row in rows.of_subjects(subjects, vector):
            line.send(RowDone(round_id, row_id, row))
    else:
        line.send(RowDone(round_id, NODE, rows.of_node(subjects, vector)))
    line.send(RoundDone(round_id))


if __name__ == "__main__":
    main()
