"""The OpenAI routes, through OpenAI's own client and on the wire."""

from __future__ import annotations

import base64
import json
import struct

import httpx
import numpy as np
import openai
import pytest
from openai import OpenAI

from tests.api.conftest import Served

QUESTION = [{"role": "user", "content": "What does a berth cost per night?"}]


@pytest.fixture
def client(served: Served, harbour: str) -> OpenAI:
    return served.openai()


def test_each_assistant_is_a_model(client: OpenAI) -> None:
    assert {"default", "harbour"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("harbour").owned_by == "alcove"


def test_an_unknown_model_is_a_404_with_openais_error(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="nobody", messages=QUESTION)
    assert raised.value.code == "model_not_found"
    assert raised.value.param == "model"


def test_an_answer_cites_passages_that_are_returned(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="harbour", messages=QUESTION, max_tokens=40)
    message = answer.choices[0].message
    assert answer.object == "chat.completion"
    assert "42" in message.content
    sources = {source["url"]: source for source in answer.model_extra["sources"]}
    assert sources
    assert message.annotations
    for note in message.annotations:
        mark = message.content[note.url_citation.start_index : note.url_citation.end_index]
        assert mark == f"[{sources[note.url_citation.url]['number']}]"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_source_can_be_fetched_and_its_id_is_stable(client: OpenAI, owner: httpx.Client) -> None:
    def first() -> dict[str, str]:
        answer = client.chat.completions.create(model="harbour", messages=QUESTION, max_tokens=5)
        return answer.model_extra["sources"][0]

    source = first()
    assert owner.get(source["url"]).json()["text"] == source["text"]
    assert first()["chunk_id"] == source["chunk_id"]


def test_a_stream_says_the_same_as_the_whole(client: OpenAI) -> None:
    options = {"model": "harbour", "messages": QUESTION, "max_tokens": 40}
    whole = client.chat.completions.create(**options)
    chunks = list(
        client.chat.completions.create(
            **options, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == whole.choices[0].message.content
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")
    assert chunks[-2].model_extra["sources"] == whole.model_extra["sources"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_the_stream_on_the_wire(served: Served, harbour: str) -> None:
    body = {"model": harbour, "messages": QUESTION, "stream": True, "max_tokens": 5}
    with (
        served.client() as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    first = json.loads(lines[0].removeprefix("data: "))
    assert first["object"] == "chat.completion.chunk"
    assert "usage" not in first


def test_open_webui_gets_one_source_per_mark(served: Served, harbour: str) -> None:
    """Its front-end numbers distinct `metadata.source`s in order (Citations.svelte)."""
    body = {"model": harbour, "messages": QUESTION, "stream": True, "max_tokens": 30}
    with served.client() as client:
        text = client.post("/v1/chat/completions", json=body).text
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    (event,) = [chunk["event"] for chunk in chunks if "event" in chunk]
    assert event["type"] == "source"
    data = event["data"]
    sources = next(chunk["sources"] for chunk in chunks if "sources" in chunk)
    named = [metadata["source"] for metadata in data["metadata"]]
    assert named == [source["url"] for source in sources]
    assert data["document"] == [source["text"] for source in sources]
    assert not any(name.startswith("http") for name in named)


def test_helper_prompts_of_a_front_end_bypass_retrieval(client: OpenAI) -> None:
    task = "### Task:\nGenerate a concise title for this chat.\n### Chat History:\nberth fees"
    answer = client.chat.completions.create(
        model="harbour", messages=[{"role": "user", "content": task}], max_tokens=8
    )
    assert answer.model_extra["sources"] == []
    assert answer.choices[0].message.annotations == []


def test_nothing_relevant_is_said_and_not_invented(client: OpenAI) -> None:
    question = "Which enzyme unwinds the double helix of deoxyribonucleic acid?"
    answer = client.chat.completions.create(
        model="harbour", messages=[{"role": "user", "content": question}]
    )
    assert answer.usage.completion_tokens == 0
    assert "helicase" not in answer.choices[0].message.content.lower()
    assert answer.choices[0].message.annotations == []


def test_unknown_fields_and_content_parts_are_accepted(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="harbour",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Where is the bronze bell?"}]},
        ],
        max_completion_tokens=20,
        user="someone",
        tools=[],
        seed=7,
        extra_body={"something": {"new": 1}},
    )
    assert answer.choices[0].message.content


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"temperature": 9}, "temperature"),
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"messages": [{"role": "user", "content": "x" * 400_001}]}, "messages"),
        ({"filter": {"year": {"$near": 1}}}, "filter"),
    ],
)
def test_a_wrong_field_is_named(
    owner: httpx.Client, harbour: str, change: dict[str, object], named: str
) -> None:
    body = {"model": harbour, "messages": QUESTION, **change}
    refused = owner.post("/v1/chat/completions", json=body)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert named in f"{error['param']} {error['message']}"


def test_embeddings_as_floats_and_as_base64(client: OpenAI, owner: httpx.Client) -> None:
    texts = ["the old boat", "a bell"]
    body = {"model": "all-MiniLM-L6-v2", "input": texts}
    floats = owner.post("/v1/embeddings", json=body).json()["data"]
    encoded = owner.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()
    for one, other in zip(floats, encoded["data"], strict=True):
        raw = base64.b64decode(other["embedding"])
        assert struct.unpack(f"<{len(raw) // 4}f", raw) == pytest.approx(one["embedding"])
    through_client = client.embeddings.create(model="harbour", input=texts)
    assert np.allclose(through_client.data[1].embedding, floats[1]["embedding"], atol=1e-6)
    assert np.linalg.norm(floats[0]["embedding"]) == pytest.approx(1, abs=1e-5)
    assert through_client.usage.prompt_tokens == 5 + 4  # words and two special tokens each


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_refused_with_the_clients_setting(
    owner: httpx.Client, served: Served, tokens: list[object]
) -> None:
    refused = owner.post("/v1/embeddings", json={"model": "default", "input": tokens})
    assert refused.status_code == 400
    assert "check_embedding_ctx_length=False" in refused.json()["error"]["message"]
