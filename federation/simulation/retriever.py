"""Simulated federations of query maps: rows, scores, and pooled training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from federation.optimiser import OptimiserState, step
from federation.plan import Optimiser, OptimiserName
from federation.plan_request import ResolvedPlan
from federation.rows import MapRows
from federation.simulation.population import Population
from federation.simulation.scoring import Scores
from federation.simulation.vectors import KnownVectors
from retrieval.embedding import Vectors
from retrieval.map_training import MapExample, MapTrainer
from retrieval.query_map import QueryMap, basis_from_bytes

CUT = 10
POOLED_STEPS = 10
ADAM = Optimiser(OptimiserName.FEDADAM, learning_rate=0.003, beta1=0.9, adaptivity=1e-8)


class RetrieverLab:
    """What a simulation needs to know of query maps."""

    metric = "mrr@10"
    scores_rounds = True

    def __init__(
        self, population: Population, vectors: KnownVectors, resolved: ResolvedPlan
    ) -> None:
        """`vectors`: of all texts of the population and the plan's public passages."""
        plan = resolved.plan
        if plan.map_terms is None:
            raise ValueError("the plan is of no query map")
        self._terms = plan.map_terms
        blob = resolved.blobs[plan.adapter.basis_hash]
        self._basis = basis_from_bytes(blob)
        public = public_texts(resolved)
        self._public = vectors(public)
        self._scorer = RetrievalScorer(population, vectors)
        self._trained: dict[bytes, NDArray[np.float32]] = {}
        self.make_rows = partial(MapRows, plan, blob, public, vectors)

    def score(self, vector: NDArray[np.float32]) -> Scores:
        """Reciprocal ranks under the map whose W is `vector`, float32, shape (r * d,)."""
        return self._scorer(QueryMap(self._basis, self._weights(vector)))

    def train(self, examples: Sequence[MapExample], seed: int) -> NDArray[np.float32]:
        """W as a vector, trained by Adam on all examples in one place, without any privacy.

        A fixed number of steps, each on all examples, so that nothing is left for `seed` to
        decide and a result is kept. More steps lower the loss of held-back examples further and
        rank worse: the loss compares passages of one subject, a question meets all of them.
        """
        name = b"".join(sorted(one.example_id for one in examples))
        if name not in self._trained:
            self._trained[name] = self._train(examples)
        return self._trained[name]

    def _train(self, examples: Sequence[MapExample]) -> NDArray[np.float32]:
        vector = np.zeros(self._basis.size, np.float32)
        if not examples:
            return vector
        # One local step of rate 1 is the negated mean gradient.
        terms = replace(self._terms, local_steps=1, local_batch=len(examples), learning_rate=1.0)
        trainer = MapTrainer(self._basis, self._public, terms)
        state = OptimiserState.zero(vector.size)
        for _ in range(POOLED_STEPS):
            down = trainer.local_update(examples, self._weights(vector), seed=0)
            vector, state = step(ADAM, state, vector, down)
        return vector

    def _weights(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        return vector.reshape(self._basis.shape[::-1])


class RetrievalScorer:
    """MRR@10, every candidate of a question's group ranked by its cosine."""

    def __init__(self, population: Population, vectors: KnownVectors) -> None:
        self._groups: list[tuple[NDArray[np.int64], Vectors, NDArray[np.int64], Vectors]] = []
        names = population.scored_groups
        self._group_of = np.array([names.index(task.group) for task in population.tasks], np.int64)
        for number, name in enumerate(names):
            places = np.flatnonzero(self._group_of == number)
            tasks = [population.tasks[place] for place in places]
            most = max(len(task.gold) for task in tasks)
            # The first answer fills the row up: a maximum does not see it twice.
            gold = np.array(
                [task.gold + task.gold[:1] * (most - len(task.gold)) for task in tasks], np.int64
            )
            questions = vectors([task.text for task in tasks])
            self._groups.append((places, questions, gold, vectors(population.candidates[name])))

    def __call__(self, query_map: QueryMap) -> Scores:
        """Reciprocal ranks of the best answers, zero below the cut."""
        values = np.zeros(len(self._group_of))
        for places, questions, gold, passages in self._groups:
            cosines = query_map.apply(questions) @ passages.T
            best = np.take_along_axis(cosines, gold, axis=1).max(axis=1, keepdims=True)
            ranks = 1 + (cosines > best).sum(axis=1)
            values[places] = np.where(ranks <= CUT, 1 / ranks, 0.0)
        return Scores(values, self._group_of)


def public_texts(resolved: ResolvedPlan) -> list[str]:
    """The public passages of a plan."""
    lines = resolved.blobs[resolved.plan.public_hash].splitlines()
    return [json.loads(line)["text"] for line in lines]
