"""Two assistants with adapters of their own and one without, asked over HTTP in turns and at once.

What each must say and find is computed here from what was planted: replies by an engine of this
process that is asked one thing at a time, rankings from the stored vectors by the maps' definition.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import select

from generation.answer import Answer, answer
from generation.engine import GenerationRequest, Message
from generation.transformers_engine import TransformersEngine
from generation.weights import find_model
from retrieval.embedding import Embedder
from retrieval.query_map import basis_from_bytes
from storage.database import Database
from storage.node_tables import Assistant, Chunk
from tests.api.planting import Planted, plant
from tests.federation.participant.plans import BASIS
from tests.narrow_generator import make_narrow_generator
from tests.personal.towns import PLACES, question, story
from tests.served import alcove_json, serving, wait

ASSISTANTS = ("first", "second", "neither")
ASKED = PLACES[:4]
TOKENS = 8
LIMIT = 5
ROUNDS = 4

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Node:
    """A served node, its folder, its generator and what was planted."""

    home: Path
    client: httpx.Client
    generator: str
    planted: Planted

    def reply(self, assistant: str, place: str) -> str:
        body = {
            "model": assistant, "messages": [{"role": "user", "content": question(place)}],
            "max_tokens": TOKENS, "use_context": False,
        }  # fmt: skip
        answered = self.client.post("/v1/chat/completions", json=body)
        assert answered.status_code == 200, answered.text
        text: str = answered.json()["choices"][0]["message"]["content"]
        return text

    def found(self, assistant: str, place: str) -> tuple[str, ...]:
        body = {
            "query": question(place), "assistant": assistant, "mode": "dense", "limit": LIMIT
        }  # fmt: skip
        hits = self.client.post("/v1/search", json=body)
        assert hits.status_code == 200, hits.text
        return tuple(hit["text"] for hit in hits.json()["data"])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    base = tmp_path_factory.mktemp("two")
    home, generator = base / "home", make_narrow_generator(base / "narrow")
    key = alcove_json("node", "init", "--home", str(home))["key"]
    (home / "settings.toml").write_text(f"generator = {json.dumps(generator)}\n")
    with serving(home) as (_, url), client_of(url, key) as client:
        parts = [("file", (f"{place}.txt", story(place).encode())) for place in PLACES]
        for name in ASSISTANTS:
            assert client.post("/v1/assistants", json={"name": name}).status_code == 201
            sent = client.post(f"/v1/assistants/{name}/documents", files=parts)
            assert wait(client, sent.json()["id"])["state"] == "done"
    planted = plant(home, generator, ASSISTANTS[:2])
    with serving(home) as (_, url), client_of(url, key) as client:
        yield Node(home, client, generator, planted)


def client_of(url: str, key: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=url, headers=headers, timeout=120)


def replies(node: Node) -> dict[tuple[str, str], str]:
    """What each assistant's pair of adapters says, each asked alone."""
    engine = TransformersEngine(find_model(node.generator), max_rows=1)

    async def say(adapters: tuple[str, ...], place: str) -> str:
        messages = (Message("user", question(place)),)
        request = GenerationRequest(messages, max_tokens=TOKENS, adapters=adapters)
        async for event in answer(engine, request, None):
            if isinstance(event, Answer):
                return event.text
        raise AssertionError("no answer")

    async def say_all() -> dict[tuple[str, str], str]:
        await engine.load_adapter("shared", node.planted.shared.lora)
        for name, own in node.planted.personal.items():
            await engine.load_adapter(name, own.lora)
        return {
            (name, place): await say(("shared", *({name} & engine.adapters)), place)
            for name in ASSISTANTS
            for place in ASKED
        }

    try:
        return asyncio.run(say_all())
    finally:
        asyncio.run(engine.close())


def rankings(node: Node, embedder: Embedder) -> dict[tuple[str, str], tuple[str, ...]]:
    """Passages by their cosine with q + q A (W + W'), the shared and the assistant's own map."""
    basis = basis_from_bytes(BASIS)
    vectors = embedder.questions([question(place) for place in ASKED])
    found = {}
    with closing(Database(node.home / "node.db")) as database, database.read() as session:
        for name in ASSISTANTS:
            own = select(Chunk).join(Assistant, Assistant.id == Chunk.assistant_id)
            chunks = session.scalars(own.where(Assistant.name == name)).all()
            passages = np.stack([np.frombuffer(chunk.vector, "<f4") for chunk in chunks])
            weights = node.planted.shared.weights
            if name in node.planted.personal:
                weights = weights + node.planted.personal[name].weights
            for place, vector in zip(ASKED, vectors + vectors @ basis @ weights, strict=True):
                best = np.argsort(-(passages @ vector))[:LIMIT]
                found[name, place] = tuple(chunks[row].text for row in best)
    return found


def test_each_is_served_by_its_own_pair_whatever_is_asked_beside_it(
    node: Node, embedder: Embedder
) -> None:
    said, ranked = replies(node), rankings(node, embedder)
    for place in ASKED:
        # Otherwise a leak of one into the other would not be seen.
        assert len({said[name, place] for name in ASSISTANTS}) == len(ASSISTANTS)
        assert len({ranked[name, place] for name in ASSISTANTS}) == len(ASSISTANTS)
    wanted: list[tuple[Any, tuple[str, str], Any]] = []
    for _ in range(ROUNDS):
        for key in said:
            wanted += [(node.reply, key, said[key]), (node.found, key, ranked[key])]
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda one: one[0](*one[1]), wanted))
    wrong = [
        (key, got, right)
        for (_, key, right), got in zip(wanted, given, strict=True)
        if got != right
    ]
    assert wrong == []


def test_after_a_reset_the_shared_pair_serves_alone(node: Node, embedder: Embedder) -> None:
    """The vectors of all assistants are the same, so that only the map tells them apart."""
    assert node.client.delete("/v1/assistants/first/personal").status_code == 204
    ranked = rankings(node, embedder)
    for place in ASKED:
        assert node.reply("first", place) == node.reply("neither", place)
        assert node.found("first", place) == ranked["neither", place]
        assert node.found("second", place) == ranked["second", place]
