"""Standing instructions as the generator reads them: on a real upstream that notes what it gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.here import Here, serving_here
from tests.api.test_access import make_key
from tests.generation.upstream_server import Upstream

PIRATE, BRIEF, LATIN = "Answer like a pirate.", "Answer in one line.", "Answer in Latin."


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.stop()


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
