"""Standing instructions: who sets them, and what a real upstream is sent of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.asking import ask, refused
from tests.api.conftest import Served
from tests.api.here import Here, serving_here
from tests.api.test_access import make_key
from tests.generation.upstream_server import Upstream

PIRATE, BRIEF, LATIN = "Answer like a pirate.", "Answer in one line.", "Answer in Latin."


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream.served() as server:
        yield server


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Here]:
    home: Path = tmp_path_factory.mktemp("node") / "home"
    with serving_here(home, generator="good", upstream_url=upstream.url) as opened:
        yield opened


def read_by_the_model(
    upstream: Upstream, here: Here, key: str, messages: list[dict[str, str]], **fields: Any
) -> list[dict[str, str]]:
    body = {"model": "default", "messages": messages, **fields}
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=here.url, headers=headers, timeout=60) as client:
        client.post("/v1/chat/completions", json=body).raise_for_status()
    sent: list[dict[str, str]] = upstream.bodies[-1]["messages"]
    return sent


def test_each_prompt_holds_those_of_its_assistant_and_its_key_word_for_word(
    here: Here, upstream: Upstream
) -> None:
    question = [{"role": "user", "content": "How deep is the sea?"}]
    with here.client() as owner:
        owner.patch("/v1/assistants/default", json={"instructions": PIRATE}).raise_for_status()
        owner.post("/v1/assistants", json={"name": "other"}).raise_for_status()
        mine, others = (
            make_key(owner, scope="user", assistants=["default"], instructions=text)["key"]
            for text in (BRIEF, LATIN)
        )

    def instructions(key: str, messages: list[dict[str, str]], **fields: Any) -> list[str]:
        read = read_by_the_model(upstream, here, key, messages, use_context=False, **fields)
        assert read[-1] == messages[-1]
        return [message["content"] for message in read if message["role"] == "system"]

    assert instructions(mine, question) == [PIRATE, BRIEF]
    assert instructions(others, question) == [PIRATE, LATIN]
    assert instructions(here.key, question) == [PIRATE]
    assert instructions(here.key, question, model="other") == []
    # The client's own come after them, and its history stays between them and the question.
    own = [{"role": "system", "content": "Rhyme."}, *question]
    assert instructions(mine, own) == [PIRATE, BRIEF, "Rhyme."]


def test_a_front_ends_helper_prompt_is_sent_as_it_is(here: Here, upstream: Upstream) -> None:
    task = [{"role": "user", "content": "### Task:\nSuggest a title for this chat."}]
    with here.client() as owner:
        owner.patch("/v1/assistants/default", json={"instructions": PIRATE}).raise_for_status()
    assert read_by_the_model(upstream, here, here.key, task)[-1] == task[-1]


def test_a_key_sets_its_own_and_the_owner_sets_all(
    owner: httpx.Client, served: Served, assistant: str, passages: list[str]
) -> None:
    def prompt_tokens(client: httpx.Client, name: str = assistant) -> int:
        answer = ask(client, name, "What does a berth cost?", max_tokens=1)
        tokens: int = answer.json()["usage"]["prompt_tokens"]
        return tokens

    mine = make_key(owner, scope="user", assistants=[assistant])
    other = make_key(owner, scope="user", assistants=[assistant])
    with served.client(mine["key"]) as me, served.client(other["key"]) as they:
        before = prompt_tokens(me)
        text = "Answer in the words of a pirate, please."
        put = me.put("/v1/instructions", json={"instructions": text})
        assert put.status_code == 200
        assert me.get("/v1/instructions").json() == {"instructions": text}
        with_key = prompt_tokens(me)
        assert with_key > before == prompt_tokens(they)
        owner.patch(f"/v1/assistants/{assistant}", json={"instructions": "Be brief. " * 20})
        assert prompt_tokens(they) > before
        assert prompt_tokens(me) > prompt_tokens(they)
        owner.patch(f"/v1/keys/{mine['id']}", json={"instructions": ""})
        assert me.get("/v1/instructions").json() == {"instructions": ""}
        refused(me.put("/v1/instructions", json={"instructions": "x" * 2_001}))
        for path in (f"/v1/assistants/{assistant}", f"/v1/keys/{mine['id']}"):
            refused(owner.patch(path, json={"instructions": None}))
        # What is left out stays as it is.
        owner.patch(f"/v1/assistants/{assistant}", json={"conversation_days": 1})
        left = owner.get(f"/v1/assistants/{assistant}").json()["instructions"]
        assert left.startswith("Be brief.")
