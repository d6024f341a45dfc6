"""Simulated federations of generator adapters: rows, scores, and pooled training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from federation.adapter_spec import parameters_from_bytes
from federation.optimiser import OptimiserState, step
from federation.plan import Optimiser, OptimiserName
from federation.plan_request import ResolvedPlan
from federation.rows import GeneratorRows, ffa_lora
from federation.simulation.answers import Asked, answers
from federation.simulation.population import Population
from federation.simulation.retriever import public_texts
from federation.simulation.scoring import Scores
from generation.adapter_files import Lora
from generation.answer_loss import GeneratorExample
from generation.answer_scores import token_f1
from generation.ffa_lora import as_lora
from storage.settings import PACKAGED

GRADIENTS = 400
"""Of pooled training, each of one example: a second of two cores with the packaged model."""

EPOCHS = 10
"""Of pooled training, at most: few examples are soon learnt by heart."""

BATCH = 4
ADAM = Optimiser(OptimiserName.FEDADAM, learning_rate=0.002, beta1=0.9, adaptivity=1e-8)


class GeneratorLab:
    """What a simulation needs to know of generator adapters."""

    metric = "answer_f1"
    scores_rounds = False

    def __init__(
        self,
        population: Population,
        resolved: ResolvedPlan,
        model: str = PACKAGED,
        *,
        gradients: int = GRADIENTS,
    ) -> None:
        """Prepare.

        Args:
            population: of which every scored question has an answer.
            model: the generator, as in `find_model`.
            gradients: of examples that pooled training makes, at most.

        Raises:
            ValueError: the plan is of no generator, or a scored question has no answer.
        """
        plan = resolved.plan
        if plan.generator_terms is None:
            raise ValueError("the plan is of no generator")
        if any(task.answer is None for task in population.tasks):
            raise ValueError("a generator is scored by answers, and a question has none")
        self._population = population
        self._resolved = resolved
        self._model = model
        self._gradients = gradients
        self._most_tokens = plan.generator_terms.max_answer_tokens
        basis, public = resolved.blobs[plan.adapter.basis_hash], public_texts(resolved)
        self.make_rows = partial(GeneratorRows, plan, basis, public, model)
        terms = replace(plan.generator_terms, max_examples_per_subject=BATCH)
        pooled = replace(plan, generator_terms=terms)
        self._make_batches = partial(GeneratorRows, pooled, basis, public, model)

    def score(self, vector: NDArray[np.float32]) -> Scores:
        """Token F1 of the answers from each question's gold passages."""
        tasks, names = self._population.tasks, self._population.scored_groups
        asked = [Asked(task.text, self._population.gold(task)) for task in tasks]
        adapters = [lora_of(self._resolved, vector)]
        said = answers(asked, self._model, adapters, self._most_tokens)
        values = [token_f1(text, task.answer or "") for text, task in zip(said, tasks, strict=True)]
        groups = [names.index(task.group) for task in tasks]
        return Scores(np.array(values, np.float64), np.array(groups, np.int64))

    def train(self, examples: Sequence[GeneratorExample], seed: int) -> NDArray[np.float32]:
        """The vector, trained by Adam on all examples in one place, without any privacy."""
        rows = self._make_batches()
        vector = parameters_from_bytes(self._resolved.initial, self._resolved.plan.adapter)
        state = OptimiserState.zero(vector.size)
        drawn = np.random.default_rng(seed)
        size = min(BATCH, len(examples))
        gradients = min(self._gradients, EPOCHS * len(examples))
        for _ in range(gradients // BATCH):
            batch = [examples[place] for place in drawn.choice(len(examples), size, replace=False)]
            # A batch as one subject: its row is the sum of its examples' gradients.
            ((_, total),) = rows.of_subjects([(b"batch", batch)], vector)
            vector, state = step(ADAM, state, vector, -total / size)
        return vector


def lora_of(resolved: ResolvedPlan, vector: NDArray[np.float32]) -> Lora:
    """The adapter that a plan's parameters, shape (d,), stand for.

    Raises:
        ValueError: the plan is of no generator, or the vector has another shape.
    """
    basis = resolved.blobs[resolved.plan.adapter.basis_hash]
    return as_lora(ffa_lora(resolved.plan.adapter, basis), basis, vector)
