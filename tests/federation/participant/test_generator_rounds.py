"""A federation of the generator between real nodes, on a random model of two narrow layers."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import current_thread
from typing import Any

import numpy as np
import pytest
import torch

from federation.adapter_spec import (
    AdapterKind,
    AdapterSpec,
    Block,
    parameters_hash,
    parameters_to_bytes,
)
from federation.coordinator import federations
from federation.coordinator import versions as released
from federation.optimiser import OptimiserState
from federation.participant.base_models import generator_identity
from federation.participant.identity import FederationHome
from federation.plan import Optimiser, OptimiserName, Timing
from federation.versions import Version
from generation.adapter_training import describe_modules
from generation.ffa_lora import random_basis
from generation.training_terms import GeneratorTerms
from generation.transformers_engine import TransformersEngine
from generation.weights import ModelFiles
from retrieval import questions
from retrieval.embedding import Embedder
from retrieval.examples import ExampleSource
from retrieval.questions import NewQuestion
from storage.membership_tables import Outcome, SharedVersion, VersionState
from tests.federation.participant.sites import (
    SUBJECTS,
    LearningSite,
    Member,
    contributions,
    learning_site,
    member,
    plans,
    until,
    versions,
)
from tests.federation.participant.sites import released as has_released
from tests.narrow_generator import make_narrow_generator
from tests.network import BadNetwork, Faults

RANK = 2


@dataclass(frozen=True)
class Model:
    """The narrow generator's folder, the adapter for it and its basis."""

    source: str
    spec: AdapterSpec
    basis: bytes


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    source = make_narrow_generator(tmp_path_factory.mktemp("narrow"))
    modules = describe_modules(source, ["q_proj", "v_proj"])
    basis = random_basis(modules, RANK, seed=4)
    spec = AdapterSpec(
        kind=AdapterKind.GENERATOR,
        base_model=generator_identity(source),
        rank=RANK,
        scale=2.0,
        basis_hash=hashlib.sha256(basis).hexdigest(),
        blocks=tuple(Block(module.name, module.outputs, RANK) for module in modules),
    )
    return Model(source, spec, basis)


@contextmanager
def generator_site(home: Path, model: Model, **given: Any) -> Iterator[LearningSite]:
    """A coordinator with a federation of one round of the generator, not started yet."""
    size = model.spec.dimension
    initial = parameters_hash(parameters_to_bytes(np.zeros(size, np.float32)))
    privacy = {"dimension": size, "rounds": 1, "max_participations": 1, "sampling_rate": 1.0}
    with learning_site(
        home, "", adapter=model.spec, basis=model.basis, initial_hash=initial, map_terms=None,
        generator_terms=GeneratorTerms(), privacy=privacy, **given,
    ) as site:  # fmt: skip
        yield site


@contextmanager
def generator_member(root: Path, embedder: Embedder, model: Model) -> Iterator[Member]:
    engine = TransformersEngine(ModelFiles("narrow", model.source), dtype=torch.float32)
    with member(root, embedder, engine, generator=model.source) as one:
        yield one
    asyncio.run(engine.close())


def fill(one: Member, words: tuple[str, ...]) -> None:
    """A short document for each word, and questions with answers."""
    files = {f"{w}.md": f"# The {w}\n\nWhere the {w} lives, and how.\n".encode() for w in words}
    ids = one.node.ingest(one.assistant_id, files)
    asked = [
        NewQuestion(f"{question} the {word}?", (document_id,), f"{word}, of course.", None)
        for word, document_id in zip(words, ids, strict=True)
        for question in ("what is", "where lives", "how old gets")
    ]
    with one.node.database.write() as session:
        questions.add(session, one.assistant_id, asked)


def publish(site: LearningSite, parameters: bytes) -> None:
    """Version 1, promoted, as a round would have released it."""
    plan = site.plan
    record = Version(
        plan.federation, plan.hash, 1, plan.adapter.hash, plan.adapter.base_model,
        parameters_hash(parameters), "1" * 32, plan.initial_hash,
    )  # fmt: skip
    moments = OptimiserState.zero(plan.adapter.dimension)
    with site.authority.database.write() as session:
        released.add(session, site.authority, record, parameters, moments)
    federations.promote(site.authority, plan.federation, 1)


def tried(one: Member) -> SharedVersion | None:
    """The version once the node has made up its mind."""
    return next((v for v in versions(one) if v.state is not VersionState.RETIRED), None)


def shapes(network: BadNetwork) -> list[tuple[bytes, tuple[tuple[bytes, int], ...], int]]:
    """Every kind of request in the order of the first of each: method and path, the headers with
    the lengths of their values, and the length of the body.

    What a poll says of the listing it has seen, and so how long it waits, is the coordinator's own
    word, which both nodes met at different times.
    """
    found = []
    for request in list(network.requests):
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        first = re.sub(rb"(wait|listing)=[^& ]*", rb"\1", first)
        headers = tuple((name, len(value)) for name, _, value in (x.partition(b":") for x in lines))
        found.append((first, headers, len(body)))
    return list(dict.fromkeys(found))


@pytest.mark.long
@pytest.mark.timeout(400)
def test_requests_do_not_tell_whether_answers_are_held_back(
    tmp_path: Path, embedder: Embedder, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FederationHome, "secret", lambda _self: b"s" * 32)
    threads, read = [], ExampleSource.held_back_answers

    def noted(self: ExampleSource) -> Any:
        threads.append(current_thread().name)
        return read(self)

    monkeypatch.setattr(ExampleSource, "held_back_answers", noted)
    some = np.full(model.spec.dimension, 1e-2, np.float32)
    with ExitStack() as stack:
        site = stack.enter_context(generator_site(tmp_path / "coordinator", model))
        publish(site, parameters_to_bytes(some))
        networks, members = [], []
        for name in ("none", "some"):
            networks.append(stack.enter_context(BadNetwork(site.url, Faults(), seed=1)))
            members.append(stack.enter_context(generator_member(tmp_path / name, embedder, model)))
        fill(members[1], SUBJECTS["north"])
        for one, network in zip(members, networks, strict=True):
            one.service.join(network.url, site.token(), network.url)
        site.approve_all()
        for one in members:
            until(lambda one=one: tried(one), "the version is tried")
        assert [one.state for one in versions(members[0])] == [VersionState.UNTESTED]
        (other,) = versions(members[1])
        assert other.examples > 0 and other.after is not None
        for network in networks:
            before = len(network.requests)
            until(lambda n=network, b=before: len(n.requests) > b + 1, "it goes on")
        assert shapes(networks[0]) == shapes(networks[1])
    # Reading them takes the longer the more there are.
    assert threads and all(name.startswith("trials") for name in threads)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_three_nodes_train_a_generator_and_serve_it(
    tmp_path: Path, embedder: Embedder, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FederationHome, "secret", lambda _self: b"s" * 32)
    with ExitStack() as stack:
        site = stack.enter_context(
            generator_site(
                tmp_path / "coordinator", model,
                # Stages end when all have answered, vectors leave when the test says so.
                timing=Timing(600.0, 600.0, 600.0, 600.0),
                # So small a step is below what float32 tells apart in any answer's loss.
                optimiser=Optimiser(OptimiserName.FEDAVG, 1e-15),
            )
        )  # fmt: skip
        members = [
            stack.enter_context(generator_member(tmp_path / name, embedder, model))
            for name in SUBJECTS
        ]
        for one, (name, words) in zip(members, SUBJECTS.items(), strict=True):
            fill(one, words)
            one.service.join(site.url, site.token(), name)
        site.approve_all()
        for one in members:
            until(lambda one=one: plans(one), "every node has read the plan")
            assert [row.refusals for row in plans(one)] == [""]
        site.start()
        for one in members:
            until(lambda one=one: has_trained(one), "the rows are done")
            (driven,) = one.service._workers.values()
            driven._rounds._due = dict.fromkeys(driven._rounds._due, time.monotonic())
        until(lambda: has_released(site), "the round is released")
        with site.authority.database.read() as session:
            newest = released.newest(session, site.plan.federation, whole=True)
        assert np.frombuffer(newest.parameters, np.float32).any()
        federations.promote(site.authority, site.plan.federation, 1)
        for one in members:
            until(lambda one=one: tried(one), "the version is tried")
            (version,) = versions(one)
            assert version.examples > 0 and version.before == version.after
            assert version.state is VersionState.SERVED
            until(lambda one=one: one.service.shared_lora is not None, "the engine has it")
            shared = one.service.shared_lora
            assert shared is not None and shared.name == f"{site.plan.hash}/1"
            assert one.service.generator_adapters == (shared.adapter,)
            assert [entered.outcome for entered in contributions(one)] == [Outcome.FINISHED]


def has_trained(one: Member) -> bool:
    """Whether every subject's row of the round is done; each has an answer to learn."""
    (driven,) = one.service._workers.values()
    for federation in driven._federations.values():
        for entered in contributions(one):
            trainer = federation.trainer
            if trainer is not None and trainer.wait(entered.round_id, 0.5):
                rows = [row for _, row in trainer.rows(entered.round_id)]
                assert len(rows) == len(SUBJECTS["north"]) and all(row.any() for row in rows)
                return True
    return False
