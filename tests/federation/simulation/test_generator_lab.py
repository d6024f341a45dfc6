"""Simulated federations of generator adapters, on a random model of two narrow layers."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict, replace

import numpy as np
import pytest

from federation.participant.base_models import generator_identity, generator_modules
from federation.plan_request import ResolvedPlan, read_request, resolve
from federation.planning import NOBODY
from federation.simulation.answers import Asked, answers
from federation.simulation.generator import GeneratorLab, lora_of
from federation.simulation.population import Division, Population, Unit, build
from federation.simulation.run import simulate
from generation.adapter_files import combine
from generation.answer import Answer, answer
from generation.answer_loss import bare_passage
from generation.engine import GenerationRequest, Message
from generation.transformers_engine import TransformersEngine
from generation.weights import ModelFiles
from retrieval.labelled import Passage, Query
from tests.narrow_generator import make_narrow_generator

FOODS = ("bread", "cheese", "salt", "oil", "wine", "honey")
LEARNING_RATE = 0.5
MOST_TOKENS = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_narrow_generator(tmp_path_factory.mktemp("narrow"))


@pytest.fixture(scope="module")
def resolved(model: str) -> ResolvedPlan:
    modules = [asdict(module) for module in generator_modules(model)]
    fields = {
        "population": "foods",
        "federation": "foods",
        "adapter": {
            "kind": "generator",
            "base_model": generator_identity(model),
            "modules": modules,
            "rank": 2,
        },
        "mode": "document",
        "noise_multiplier": 1.0,
        "rounds": 1,
        "cohort": 3,
        "min_survivors": 3,
        "sampling_rate": 1.0,
        "planned_rows": 6,
        "clip_norm": 1e3,
        "optimiser": {"name": "fedavg", "learning_rate": LEARNING_RATE},
        "generator_terms": {"max_prompt_tokens": 96, "max_answer_tokens": MOST_TOKENS},
        "public_passages": ["A bridge."],
    }
    return resolve(read_request(fields), NOBODY)


@pytest.fixture(scope="module")
def population() -> Population:
    """Three nodes of two subjects with a question each, and a question each for scoring."""
    corpus, queries = [], []
    for place, food in enumerate(FOODS):
        client = f"shop{place // 2}"
        corpus.append(Passage(food, f"Fresh {food} is on shelf {place}.", "", client))
        for split in ("train", "test")[: 2 - place % 2]:
            queries.append(
                Query(
                    f"{food}-{split}", f"Where is the {food}?", client, frozenset({food}), split,
                    answer=f"on shelf {place}",
                )
            )  # fmt: skip
    return build(
        corpus, queries, Division.read("client"), Unit.DOCUMENT, score_by="client", split="test"
    )


def some_vector(resolved: ResolvedPlan, seed: int) -> np.ndarray:
    """Large enough to change what the model says."""
    drawn = np.random.default_rng(seed)
    return (10 * drawn.standard_normal(resolved.plan.adapter.dimension)).astype(np.float32)


def test_answers_are_those_of_a_node(model: str, resolved: ResolvedPlan) -> None:
    asked = Asked("Where is the oil?", ("Oil is on shelf 3.", "Wine is on shelf 4."))
    (said,) = answers([asked], model, [], MOST_TOKENS)
    engine = TransformersEngine(ModelFiles("narrow", model))
    request = GenerationRequest((Message("user", asked.question),), max_tokens=MOST_TOKENS)
    passages = tuple(replace(bare_passage(text), dense=1.0) for text in asked.passages)

    async def served() -> str:
        events = [event async for event in answer(engine, request, passages)]
        await engine.close()
        assert isinstance(events[-1], Answer)
        return re.sub(r" ?\[\d+\]", "", events[-1].text)

    assert said == asyncio.run(served()) != ""
    zeros = np.zeros(resolved.plan.adapter.dimension, np.float32)
    assert answers([asked], model, [lora_of(resolved, zeros)], MOST_TOKENS) == [said]


def test_two_adapters_are_their_sum(model: str, resolved: ResolvedPlan) -> None:
    one, two = (lora_of(resolved, some_vector(resolved, seed)) for seed in (1, 2))
    asked = [Asked("Where is the oil?", ("Oil is on shelf 3.",))]
    # Scales are powers of two, which multiply without rounding.
    pair = [replace(one, alpha=2 * one.rank), replace(two, alpha=4 * two.rank)]
    said = [
        answers(asked, model, adapters, MOST_TOKENS)
        for adapters in (pair, [combine(*pair)], pair[:1], pair[1:], [])
    ]
    assert said[0] == said[1]
    assert all(said[place] not in said[:place] for place in (2, 3, 4))
    with pytest.raises(ValueError, match="more than two"):
        answers(asked, model, [one, two, one], MOST_TOKENS)


def test_a_score_is_one_where_the_model_says_the_answer(
    model: str, resolved: ResolvedPlan, population: Population
) -> None:
    vector = some_vector(resolved, 1)
    task = population.tasks[0]
    (said,) = answers(
        [Asked(task.text, population.gold(task))], model, [lora_of(resolved, vector)], MOST_TOKENS
    )
    told = replace(population, tasks=(replace(task, answer=said),))
    lab = GeneratorLab(told, resolved, model)
    assert lab.score(vector).values.tolist() == [1.0]
    assert lab.score(some_vector(resolved, 2)).values[0] < 1.0


@pytest.mark.long
def test_a_round_without_noise_is_a_step_along_the_mean_gradient(
    model: str, resolved: ResolvedPlan, population: Population
) -> None:
    lab = GeneratorLab(population, resolved, model, gradients=4)
    outcome = simulate(
        population, lab, resolved,
        private=False, drop=0.0, secure=False, seed=0, processes=2,
    )  # fmt: skip
    rows = lab.make_rows()
    subjects = [
        (name, rows.prepare(own)) for node in population.nodes for name, own in node.subjects
    ]
    start = np.zeros(resolved.plan.adapter.dimension, np.float32)
    gradients = [row for _, row in rows.of_subjects(subjects, start)]
    assert len(gradients) == len(FOODS)
    expected = -LEARNING_RATE * np.mean(gradients, axis=0)
    # Threads of a kernel move the last bits.
    assert np.allclose(outcome.vector, expected, rtol=1e-3, atol=1e-6)
    assert np.abs(outcome.vector).max() > 1e-4
    assert outcome.alone is None
    assert outcome.zero_shot.groups.tolist() == [0, 1, 2]


def test_pooled_training_lowers_the_loss(
    model: str, resolved: ResolvedPlan, population: Population
) -> None:
    lab = GeneratorLab(population, resolved, model, gradients=40)
    rows = lab.make_rows()
    own = [example for node in population.nodes for _, every in node.subjects for example in every]
    start = np.zeros(resolved.plan.adapter.dimension, np.float32)
    trained = lab.train(rows.prepare(own), seed=3)
    assert rows.loss(own, trained) < rows.loss(own, start)
    assert np.array_equal(trained, lab.train(rows.prepare(own), seed=3))
    assert not lab.train([], seed=3).any()


def test_fewer_questions_are_some_of_more(population: Population) -> None:
    two, one = (population.with_questions(most).tasks for most in (2, 1))
    assert two[:1] == one
    assert set(two) < set(population.tasks) == set(population.with_questions(9).tasks)


def test_a_question_without_an_answer_is_refused(
    resolved: ResolvedPlan, population: Population
) -> None:
    tasks = (replace(population.tasks[0], answer=None),)
    with pytest.raises(ValueError, match="a question has none"):
        GeneratorLab(replace(population, tasks=tasks), resolved)
