"""MRR@10 against a slow oracle, and the mean over groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.simulation.population import Population, Task
from federation.simulation.retriever import RetrievalScorer
from federation.simulation.scoring import Scores
from federation.simulation.vectors import KnownVectors
from retrieval.query_map import QueryMap, random_basis

DIMENSION, RANK = 4, 2
BASIS = random_basis(DIMENSION, RANK, seed=0)
NO_MAP = QueryMap(BASIS, np.zeros((RANK, DIMENSION), np.float32))


def reciprocal_ranks(
    population: Population, known: KnownVectors, query_map: QueryMap
) -> list[float]:
    """By the definition, number by number: 1 over the best answer's rank, 0 below rank ten."""
    basis, weights = query_map.basis.tolist(), query_map.weights.tolist()
    found = []
    for task in population.tasks:
        question = known([task.text])[0].tolist()
        low = [sum(q * basis[i][j] for i, q in enumerate(question)) for j in range(RANK)]
        mapped = [
            q + sum(low[j] * weights[j][i] for j in range(RANK)) for i, q in enumerate(question)
        ]
        products = [
            sum(m * x for m, x in zip(mapped, known([text])[0].tolist(), strict=True))
            for text in population.candidates[task.group]
        ]
        best = max(products[place] for place in task.gold)
        rank = 1 + len([product for product in products if product > best])
        found.append(1 / rank if rank <= 10 else 0.0)
    return found


@st.composite
def populations(draw: st.DrawFn) -> tuple[Population, list[str]]:
    """One to three groups of up to 25 passages, with questions of one to three answers."""
    candidates, tasks = {}, []
    for group in draw(st.lists(st.sampled_from("xyz"), min_size=1, max_size=3, unique=True)):
        size = draw(st.integers(1, 25))
        candidates[group] = tuple(f"{group} passage {n}" for n in range(size))
        for n in range(draw(st.integers(1, 4))):
            gold = draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=3))
            tasks.append(Task(f"{n}", f"{group} question {n}", None, group, tuple(gold)))
    found = Population((), candidates, tuple(draw(st.permutations(tasks))))
    return found, found.texts()


@given(populations(), st.integers(0, 2**32 - 1))
def test_ties_count_for_the_answer(drawn: tuple[Population, list[str]], seed: int) -> None:
    """Vectors of small whole numbers: products are exact, and often equal."""
    population, texts = drawn
    numbers = np.random.default_rng(seed).integers(-2, 3, (len(texts), DIMENSION))
    known = KnownVectors(texts, numbers.astype(np.float32))
    scores = RetrievalScorer(population, known)(NO_MAP)
    assert scores.values.tolist() == reciprocal_ranks(population, known, NO_MAP)


@given(populations(), st.integers(0, 2**32 - 1))
def test_questions_are_mapped_and_passages_are_not(
    drawn: tuple[Population, list[str]], seed: int
) -> None:
    population, texts = drawn
    chance = np.random.default_rng(seed)
    numbers = chance.normal(size=(len(texts), DIMENSION))
    numbers /= np.linalg.norm(numbers, axis=1, keepdims=True)
    known = KnownVectors(texts, numbers.astype(np.float32))
    query_map = QueryMap(BASIS, chance.normal(size=(RANK, DIMENSION)).astype(np.float32))
    scores = RetrievalScorer(population, known)(query_map)
    assert scores.values.tolist() == reciprocal_ranks(population, known, query_map)
    names = sorted({task.group for task in population.tasks})
    assert [names[group] for group in scores.groups] == [task.group for task in population.tasks]


def test_a_large_group_counts_no_more_than_a_small_one() -> None:
    scores = Scores(np.array([1.0, 1.0, 1.0, 0.5, 0.0]), np.array([0, 0, 0, 1, 1]))
    assert scores.mean == pytest.approx((1.0 + 0.25) / 2)
