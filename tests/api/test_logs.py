"""A node logs nothing of what people say to it: all bytes of its log are searched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import Served
from tests.api.test_access import make_key
from tests.narrow_generator import make_narrow_generator
from tests.served import alcove_json, serving, wait

HEADERS = {"X-OpenWebUI-Chat-Id": "qzkvchat"}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A node of these tests alone, whose generator answers with noise."""
    base = tmp_path_factory.mktemp("logs")
    home, generator = base / "home", make_narrow_generator(base / "narrow")
    key = alcove_json("node", "init", "--home", str(home))["key"]
    (home / "settings.toml").write_text(f"generator = {json.dumps(generator)}\n")
    with serving(home) as (process, url):
        yield Served(url, key, home, process)


def say_all(owner: httpx.Client, user: httpx.Client, name: str, word: str) -> set[str]:
    """Say `word` wherever one can say something; returns what the generator said."""
    base = f"/v1/assistants/{name}"
    text = f"# The {word}heading\n\nWhat there is to know about {word}text.\n"
    sent = owner.post(f"{base}/documents", files=[("file", (f"{word}name.md", text.encode()))])
    job = wait(owner, sent.json()["id"])
    passage = f"{job['items'][0]['document_id']}.1.0"
    owner.patch(base, json={"instructions": f"Say {word}told."})
    user.put("/v1/instructions", json={"instructions": f"Say {word}asked."})
    said = set()
    for use_context, stream in ((True, False), (False, False), (True, True)):
        chat = {
            "model": name, "max_tokens": 12, "stream": stream, "use_context": use_context,
            "messages": [{"role": "user", "content": f"What of {word}text and {word}question?"}],
        }  # fmt: skip
        answered = user.post("/v1/chat/completions", json=chat, headers=HEADERS)
        assert answered.status_code == 200, answered.text
        if not stream:
            said.add(answered.json()["choices"][0]["message"]["content"])
            completion = answered.json()["id"]
    assert user.post("/v1/search", json={"assistant": name, "query": f"{word}search"}).is_success
    assert user.post("/v1/embeddings", json={"model": name, "input": f"{word}input"}).is_success
    feedback: dict[str, Any] = {
        "model": name, "completion_id": completion, "question": f"{word}question?", "rating": 1,
        "answer": f"{word}answer [1]", "reason": f"{word}reason", "metadata": {"k": f"{word}meta"},
        "corrected_answer": f"{word}better",
        "passages": [{"chunk_id": passage, "rating": 1}],
    }  # fmt: skip
    given = user.post("/v1/feedback", json=feedback, headers=HEADERS)
    assert given.status_code == 201, given.text
    assert owner.post(f"{base}/feedback/{given.json()['id']}/approve").is_success
    line = {"question": f"{word}label", "relevant": [passage], "answer": f"{word}label"}
    assert owner.post(f"{base}/questions", content=json.dumps(line)).is_success
    refused = [
        user.post("/v1/feedback", json={**feedback, "rating": f"{word}rating"}),
        user.post("/v1/feedback", json={**feedback, "passages": [{"chunk_id": f"{word}id"}]}),
        user.post("/v1/chat/completions", json={**chat, "messages": f"{word}messages"}),
        owner.post(f"{base}/questions", content=f'{{"question": "{word}half'),
    ]
    assert {answer.status_code for answer in refused} == {400}
    assert owner.delete(f"{base}/conversations").is_success
    assert owner.delete(f"{base}/feedback").is_success
    assert owner.delete(f"{base}/documents/{job['items'][0]['document_id']}").is_success
    return said


@pytest.mark.long
@pytest.mark.parametrize("days", [None, 3], ids=["not kept", "kept"])
def test_nothing_that_was_said_is_logged(own: Served, days: int | None) -> None:
    name, word = ("off", "qzkvoff") if days is None else ("on", "qzkvon")
    with own.client() as owner:
        assert owner.post("/v1/assistants", json={"name": name}).status_code == 201
        assert owner.patch(f"/v1/assistants/{name}", json={"conversation_days": days}).is_success
        with own.client(make_key(owner, scope="user", assistants=[name])["key"]) as user:
            said = say_all(owner, user, name, word)
    log = written(own.home)
    assert b'"event": "ready"' in log
    assert b"qzkv" not in log.lower()
    for text in said:
        assert text.strip() and text.encode() not in log
        assert json.dumps(text)[1:-1].encode() not in log


def written(home: Path) -> bytes:
    """All that the process has written to standard output and standard error."""
    return (home.parent / "server.log").read_bytes()
