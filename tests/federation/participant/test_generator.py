"""The shared generator adapter: its rows as the training process makes them, and its serving.

On a random model of two narrow layers with the packaged model's tokenizer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from federation.adapter_spec import AdapterKind, AdapterSpec, Block, parameters_to_bytes
from federation.participant.adoption import Trial
from federation.participant.base_models import ADAPTED, generator_identity, generator_modules
from federation.participant.generator_trial import GeneratorTrial
from federation.participant.shared_generator import SharedGenerator
from federation.participant.trainer import TrainingTask
from federation.rows import GeneratorRows, ffa_lora
from federation.signed import Signed
from federation.versions import SignedVersion, Version
from generation.adapter_training import describe_modules
from generation.answer_loss import GeneratorExample
from generation.engine import GenerationRequest, Message, complete
from generation.ffa_lora import as_lora, random_basis
from generation.training_terms import GeneratorTerms
from generation.transformers_engine import TransformersEngine
from generation.weights import ModelFiles
from retrieval.examples import Example
from storage.membership_tables import VersionState
from tests.federation.participant.plans import PUBLIC_TEXTS, make_plan
from tests.federation.participant.sites import until
from tests.narrow_generator import make_narrow_generator

RANK = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_narrow_generator(tmp_path_factory.mktemp("narrow"))


@pytest.fixture(scope="module")
def task(model: str) -> TrainingTask:
    modules = describe_modules(model, ["q_proj", "v_proj"])
    basis = random_basis(modules, RANK, seed=4)
    spec = AdapterSpec(
        kind=AdapterKind.GENERATOR,
        base_model=generator_identity(model),
        rank=RANK,
        scale=2.0,
        basis_hash=hashlib.sha256(basis).hexdigest(),
        blocks=tuple(Block(module.name, module.outputs, RANK) for module in modules),
    )
    plan = make_plan(
        adapter=spec, map_terms=None, generator_terms=GeneratorTerms(),
        privacy={"dimension": spec.dimension},
    )  # fmt: skip
    return TrainingTask(plan, basis, PUBLIC_TEXTS, model)


@pytest.fixture(scope="module")
def rows(task: TrainingTask) -> GeneratorRows:
    return GeneratorRows(task.plan, task.basis, task.public_texts, task.model)


@pytest.fixture(scope="module")
def subjects(rows: GeneratorRows) -> Subjects:
    return [(word, rows.prepare(examples)) for word, examples in SUBJECTS]


def example(word: str, answer: str | None) -> Example:
    return Example(
        word.encode().ljust(32, b"\0"), f"What about {word}?", answer, (f"{word} is good.",), ()
    )


Subjects = list[tuple[bytes, list[GeneratorExample]]]
SUBJECTS = [(word.encode(), (example(word, f"{word}!"),)) for word in ("bread", "cheese", "salt")]


def vector(task: TrainingTask) -> np.ndarray:
    size = task.plan.adapter.dimension
    return (np.random.default_rng(6).standard_normal(size) / 10).astype(np.float32)


def test_a_row_is_the_same_without_the_other_subjects(
    rows: GeneratorRows, task: TrainingTask, subjects: Subjects
) -> None:
    every = dict(rows.of_subjects(subjects, vector(task)))
    without = dict(rows.of_subjects(subjects[1:], vector(task)))
    assert every.keys() - without.keys() == {b"bread"}
    for row_id, row in without.items():
        assert np.abs(row).max() > 0
        assert np.array_equal(row, every[row_id])


def test_questions_without_an_answer_make_a_zero_row(
    rows: GeneratorRows, task: TrainingTask
) -> None:
    own = rows.prepare((example("oil", None),))
    (row,) = [row for _, row in rows.of_subjects([(b"s", own)], vector(task))]
    assert row.shape == (task.plan.adapter.dimension,)
    assert not row.any()


def test_a_node_without_examples_updates_nothing(
    rows: GeneratorRows, task: TrainingTask, subjects: Subjects
) -> None:
    assert not rows.of_node([], vector(task), 0).any()
    assert rows.of_node([one for _, (one,) in subjects], vector(task), 0).any()


def test_a_model_is_named_by_its_weights(model: str, tmp_path: Path) -> None:
    identity = generator_identity(model)
    other = LlamaForCausalLM.from_pretrained(model)
    with torch.no_grad():
        other.lm_head.weight.mul_(1.01)
    other.save_pretrained(tmp_path / Path(model).name)
    assert generator_identity(model) == identity
    assert generator_identity(str(tmp_path / Path(model).name)) != identity


def test_the_modules_for_a_plan_are_those_that_the_trainer_finds(model: str) -> None:
    assert generator_modules(model) == describe_modules(model, ADAPTED)


def version(task: TrainingTask) -> SignedVersion:
    plan = task.plan
    record = Version(
        plan.federation, plan.hash, 1, plan.adapter.hash, plan.adapter.base_model, "ab" * 32,
        "round", "cd" * 32,
    )  # fmt: skip
    return Signed(record, plan.coordinator, "")


def test_a_version_is_tried_by_the_loss_of_held_back_answers(
    rows: GeneratorRows, task: TrainingTask, subjects: Subjects
) -> None:
    examples = [own for _, (own,) in SUBJECTS]
    nothing = np.zeros(task.plan.adapter.dimension, np.float32)
    # Uphill on these very examples: a version that hurts.
    worse = (-rows.of_node([one for _, (one,) in subjects], nothing, 0)).astype(np.float32)
    trial = GeneratorTrial(task, 1, parameters_to_bytes(worse), None, examples)
    try:
        until(trial.result, "the trial is done")
        result = trial.result()
    finally:
        trial.close()
    assert result is not None and result.after is not None and result.before is not None
    assert result.examples == 3
    assert result.before < result.after
    assert result.before == pytest.approx(rows.loss(tuple(examples), nothing), rel=1e-4)
    assert result.after == pytest.approx(rows.loss(tuple(examples), worse), rel=1e-4)
    assert result.state(AdapterKind.GENERATOR) is VersionState.HARMFUL


def test_a_version_is_compared_with_the_one_that_is_served(
    rows: GeneratorRows, task: TrainingTask, subjects: Subjects
) -> None:
    examples = [own for _, (own,) in SUBJECTS]
    nothing = np.zeros(task.plan.adapter.dimension, np.float32)
    best = rows.of_node([one for _, (one,) in subjects], nothing, 0).astype(np.float32)
    good = (best / 2).astype(np.float32)
    served = parameters_to_bytes(best)
    trial = GeneratorTrial(task, 2, parameters_to_bytes(good), served, examples)
    try:
        until(trial.result, "the trial is done")
        result = trial.result()
    finally:
        trial.close()
    assert result is not None and result.after is not None
    assert result.after < rows.loss(tuple(examples), nothing)
    assert result.before == pytest.approx(rows.loss(tuple(examples), best), rel=1e-4)
    assert result.state(AdapterKind.GENERATOR) is VersionState.HARMFUL


def test_without_held_back_answers_nobody_can_tell(task: TrainingTask) -> None:
    nothing = parameters_to_bytes(np.zeros(task.plan.adapter.dimension, np.float32))
    trial = GeneratorTrial(task, 1, nothing, None, [])
    result = trial.result()
    assert result == Trial(0, None, None)
    assert result.state(AdapterKind.GENERATOR) is VersionState.UNTESTED


@pytest.mark.parametrize(
    ("kind", "before", "after", "state"),
    [
        (AdapterKind.GENERATOR, 2.0, 1.9, VersionState.SERVED),
        (AdapterKind.GENERATOR, 2.0, 2.0, VersionState.SERVED),
        (AdapterKind.GENERATOR, 2.0, 2.1, VersionState.HARMFUL),
        (AdapterKind.RETRIEVER, 0.5, 0.6, VersionState.SERVED),
        (AdapterKind.RETRIEVER, 0.5, 0.5, VersionState.SERVED),
        (AdapterKind.RETRIEVER, 0.5, 0.4, VersionState.HARMFUL),
        (AdapterKind.GENERATOR, 2.0, float("nan"), VersionState.HARMFUL),
    ],
)
def test_a_version_is_served_only_if_it_does_not_hurt(
    kind: AdapterKind, before: float, after: float, state: VersionState
) -> None:
    assert Trial(5, before, after).state(kind) is state


@pytest.fixture(scope="module")
def engine(model: str) -> Iterator[TransformersEngine]:
    opened = TransformersEngine(ModelFiles("narrow", model), dtype=torch.float32)
    yield opened
    asyncio.run(opened.close())


def test_adapters_are_exchanged_while_the_engine_runs(
    engine: TransformersEngine, task: TrainingTask
) -> None:
    spec = ffa_lora(task.plan.adapter, task.basis)
    shared = SharedGenerator(engine)

    def serve(name: str, scale: float) -> None:
        shared.serve(name, as_lora(spec, task.basis, scale * vector(task)))

    def reply() -> str:
        request = GenerationRequest(
            (Message("user", "Hello"),), max_tokens=12, adapters=shared.adapters
        )
        return asyncio.run(complete(engine, request))[0]

    plain = reply()
    serve("one", 100)
    assert shared.adapters == ("one",)
    first = reply()
    assert first != plain
    serve("two", -100)
    assert shared.adapters == ("two",)
    serve("three", 50)
    assert engine.adapters == {"two", "three"}
    shared.withdraw()
    assert reply() == plain
    serve("one", 100)
    assert reply() == first
