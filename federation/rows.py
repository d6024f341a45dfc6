"""From a node's examples to the rows that it adds: one code for participants and simulations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from federation.adapter_spec import AdapterSpec
from federation.plan import FederationPlan
from generation.ffa_lora import AdaptedModule, FfaLora
from retrieval.embedding import Vectors
from retrieval.examples import Example
from retrieval.map_training import MapExample, MapTrainer
from retrieval.query_map import basis_from_bytes

if TYPE_CHECKING:
    from generation.answer_loss import GeneratorExample

NODE = b"node"
"""The id of the one row of mode `client`."""

Row = tuple[bytes, NDArray[np.float64]]
Prepared = TypeVar("Prepared")
"""An example as a kind of adapter is trained on it."""


class Rows(Protocol[Prepared]):
    """Makes the rows of a plan."""

    def prepare(self, examples: Sequence[Example]) -> list[Prepared]:
        """A subject's examples, those that count under the plan's terms."""
        ...

    def of_subjects(
        self, subjects: Iterable[tuple[bytes, list[Prepared]]], vector: NDArray[np.float32]
    ) -> Iterator[Row]:
        """The gradient of each subject, shape (d,), in turn."""
        ...

    def of_node(
        self, examples: Sequence[Prepared], vector: NDArray[np.float32], seed: int
    ) -> NDArray[np.float64]:
        """The node's own update of the vector, shape (d,); `seed` draws its batches."""
        ...


class MapRows:
    """Rows of a query map."""

    def __init__(
        self,
        plan: FederationPlan,
        basis: bytes,
        public_texts: Sequence[str],
        embed: Callable[[Sequence[str]], Vectors],
    ) -> None:
        """`embed` returns vectors of shape (n, d) that depend on their own text only."""
        if plan.map_terms is None:
            raise ValueError("the plan has no terms for a query map")
        self._terms = plan.map_terms
        self._spec = plan.adapter
        self._embed = embed
        self._trainer = MapTrainer(basis_from_bytes(basis), embed(public_texts), self._terms)

    def prepare(self, examples: Sequence[Example]) -> list[MapExample]:
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

    def of_subjects(
        self, subjects: Iterable[tuple[bytes, list[MapExample]]], vector: NDArray[np.float32]
    ) -> Iterator[Row]:
        return self._trainer.subject_gradients(subjects, self._weights(vector))

    def of_node(
        self, examples: Sequence[MapExample], vector: NDArray[np.float32], seed: int
    ) -> NDArray[np.float64]:
        return self._trainer.local_update(examples, self._weights(vector), seed)

    def _weights(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        (weights,) = self._spec.to_matrices(vector).values()
        return weights


class GeneratorRows:
    """Rows of a generator adapter, from the questions that have an answer."""

    def __init__(
        self, plan: FederationPlan, basis: bytes, public_texts: Sequence[str], model: str
    ) -> None:
        """Load the generator: `model` as in `find_model`."""
        # Some seconds of imports that a retriever's process does without.
        from generation.adapter_training import GeneratorTrainer
        from generation.answer_loss import bare_passage
        from generation.weights import find_model

        if plan.generator_terms is None:
            raise ValueError("the plan has no terms for a generator")
        self._trainer = GeneratorTrainer(
            find_model(model),
            ffa_lora(plan.adapter, basis),
            basis,
            [bare_passage(text) for text in public_texts],
            plan.generator_terms,
        )

    def prepare(self, examples: Sequence[Example]) -> list[GeneratorExample]:
        from generation.answer_loss import GeneratorExample, bare_passage

        return [
            GeneratorExample(
                example.example_id,
                example.question,
                tuple(bare_passage(text) for text in example.positives),
                example.answer,
            )
            for example in examples
            if example.answer is not None
        ]

    def of_subjects(
        self, subjects: Iterable[tuple[bytes, list[GeneratorExample]]], vector: NDArray[np.float32]
    ) -> Iterator[Row]:
        for subject in subjects:
            yield from self._trainer.subject_gradients([subject], vector)

    def of_node(
        self, examples: Sequence[GeneratorExample], vector: NDArray[np.float32], seed: int
    ) -> NDArray[np.float64]:
        return self._trainer.local_update(examples, vector, seed)

    def loss(self, examples: Sequence[Example], vector: NDArray[np.float32]) -> float:
        """The mean loss of those with an answer; ValueError if there are none."""
        return self._trainer.average_loss(self.prepare(examples), vector)


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
