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
from typing import TYPE_CHECKING, Protocol

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from federation.adapter_spec import AdapterKind, AdapterSpec
from federation.participant.examples import Example
from federation.participant.trainer import (
    Examples,
    LossesDone,
    LossTask,
    RoundDone,
    RoundTask,
    RowDone,
    TrainingTask,
)
from generation.ffa_lora import AdaptedModule, FfaLora
from retrieval.embedding import Embedder, Vectors
from retrieval.map_training import MapExample, local_update, subject_gradients
from retrieval.query_map import basis_from_bytes
from retrieval.search import Hit
from storage.settings import PACKAGED

if TYPE_CHECKING:
    from generation.adapter_training import GeneratorExample

NICENESS = 19
MOST_VECTORS = 100_000
"""Kept from round to round: 150 MB at 384 dimensions."""

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
        self._terms = terms
        self._spec = task.plan.adapter
        self._embedder = embedder
        self._vectors: dict[str, Vectors] = {}
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
                self._embed(example.negatives[: terms.max_negatives]),
            )
            for example in kept[: terms.max_examples_per_subject]
        ]

    def _embed(self, texts: tuple[str, ...]) -> Vectors:
        if not texts:
            return np.empty((0, self._embedder.dimension), np.float32)
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vectors:
        found = self._vectors.get(text)
        if found is None:
            if len(self._vectors) >= MOST_VECTORS:
                self._vectors.clear()
            found = self._vectors[text] = self._embedder.questions([text])[0]
        return found


class GeneratorRows:
    """Rows of a generator adapter, from the questions that have an answer."""

    def __init__(self, task: TrainingTask) -> None:
        """Load the generator."""
        # Some seconds of imports that a retriever's process does without.
        from generation.adapter_training import GeneratorTrainer
        from generation.weights import find_model

        terms = task.plan.generator_terms
        if terms is None:
            raise ValueError("the plan has no terms for a generator")
        self._trainer = GeneratorTrainer(
            find_model(None if task.model == PACKAGED else task.model),
            ffa_lora(task.plan.adapter, task.basis),
            task.basis,
            [_passage(text) for text in task.public_texts],
            terms,
        )

    def of_subjects(
        self, subjects: Examples, vector: NDArray[np.float32]
    ) -> Iterator[tuple[bytes, NDArray[np.float64]]]:
        for subject_id, examples in subjects:
            own = [(subject_id, _answered(examples))]
            yield from self._trainer.subject_gradients(own, vector)

    def of_node(self, subjects: Examples, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        every = [own for _, examples in subjects for own in _answered(examples)]
        return self._trainer.local_update(every, vector, secrets.randbits(64))

    def loss(self, examples: tuple[Example, ...], vector: NDArray[np.float32]) -> float:
        """The mean loss of those with an answer; ValueError if there are none."""
        return self._trainer.average_loss(_answered(examples), vector)


def ffa_lora(spec: AdapterSpec, basis: bytes) -> FfaLora:
    """The adapter that a federation's spec and basis file describe.

    Raises:
        ValueError: they do not fit each other.
    """
    fixed = safetensors.numpy.load(basis)
    if fixed.keys() != {block.name for block in spec.blocks}:
        raise ValueError("the basis is for other modules than the spec")
    modules = [AdaptedModule(b.name, fixed[b.name].shape[-1], b.rows) for b in spec.blocks]
    return FfaLora(spec.base_model, tuple(modules), spec.rank, round(spec.scale * spec.rank))


def _answered(examples: tuple[Example, ...]) -> list[GeneratorExample]:
    from generation.adapter_training import GeneratorExample

    return [
        GeneratorExample(
            example.example_id,
            example.question,
            tuple(_passage(text) for text in example.positives),
            example.answer,
        )
        for example in examples
        if example.answer is not None
    ]


def _passage(text: str) -> Hit:
    return Hit("", "", None, "", "", "", None, 0, text, 0.0, 0.0, 0.0)


def open_rows(task: TrainingTask) -> Rows:
    """Loads the model that the plan adapts; takes seconds."""
    if task.plan.adapter.kind is AdapterKind.RETRIEVER:
        return MapRows(task, Embedder(task.model))
    return GeneratorRows(task)


def main() -> None:
    os.nice(NICENESS)
    line = Connection(int(sys.argv[1]))
    task: TrainingTask = line.recv()
    rows = open_rows(task)
    while True:
        try:
            _answer(line, line.recv(), task, rows)
        except (EOFError, BrokenPipeError):
            return


def _answer(line: Connection, wanted: RoundTask | LossTask, task: TrainingTask, rows: Rows) -> None:
    if isinstance(wanted, RoundTask):
        _train(line, wanted, task, rows)
    elif isinstance(rows, GeneratorRows):
        losses = tuple(rows.loss(wanted.examples, vector) for vector in wanted.vectors)
        line.send(LossesDone(wanted.round_id, losses))
    else:
        raise TypeError("a query map is tried by what it finds, not by a loss")


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
