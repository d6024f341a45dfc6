"""A personal LoRA, trained by a real process for a generator of two narrow layers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from generation.engine import GenerationRequest, Message, complete
from generation.transformers_engine import TransformersEngine
from generation.weights import find_model
from retrieval.embedding import Embedder
from storage.example_tables import PersonalKind
from tests.narrow_generator import make_narrow_generator
from tests.personal.towns import Town, open_town

ERASE_SECONDS = 120
ANSWER = "Wear a helmet and sign the register, sign the register, sign the register."


@pytest.fixture
def town(tmp_path: Path, embedder: Embedder) -> Iterator[tuple[Town, TransformersEngine]]:
    model = make_narrow_generator(tmp_path / "model")
    engine = TransformersEngine(find_model(model))
    try:
        with open_town(tmp_path / "home", embedder, engine, generator=model) as opened:
            yield opened, engine
    finally:
        asyncio.run(engine.close())


def reply(engine: TransformersEngine, adapters: tuple[str, ...]) -> str:
    request = GenerationRequest((Message("user", "Hello?"),), max_tokens=8, adapters=adapters)
    return asyncio.run(complete(engine, request))[0]


@pytest.mark.long
def test_it_is_trained_served_and_withdrawn(town: tuple[Town, TransformersEngine]) -> None:
    opened, engine = town
    first, other = opened.node.assistant(), opened.node.assistant("other")
    opened.settle(first)
    opened.teach(first, answer=ANSWER)
    assert opened.personal.generator_adapters(first) == ()
    job = opened.node.finish(opened.personal.train(first, [PersonalKind.GENERATOR]).id)
    version = opened.served(first, PersonalKind.GENERATOR)
    assert version is not None and version.before is not None and version.after is not None, job
    assert version.after < version.before
    adapters = opened.personal.generator_adapters(first)
    assert adapters == (f"personal-{version.id}",) and adapters[0] in engine.adapters
    assert opened.personal.generator_adapters(other) == ()
    assert reply(engine, adapters) != reply(engine, ())
    # It was trained beside no shared adapter.
    assert opened.personal._adapters is not None
    assert opened.personal._adapters(first, ("shared-x-1",)) == ("shared-x-1",)

    erased = opened.node.library.erase(
        first, [opened.document(first, "quarry-b.txt")], ERASE_SECONDS
    )
    assert opened.personal.generator_adapters(first) != adapters
    assert erased.result is not None
    (entry,) = erased.result["receipt"]["personal"]
    assert (entry["kind"], entry["version"]) == ("generator", version.id)
    opened.node.finish(entry["job"])
    fresh = opened.served(first, PersonalKind.GENERATOR)
    assert fresh is not None and fresh.examples == version.examples - 1
    assert opened.personal.generator_adapters(first) == (f"personal-{fresh.id}",)
