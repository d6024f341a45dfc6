"""Conversations: kept only while the owner wants it, and erased."""

from __future__ import annotations

import json

import httpx

from tests.api.asking import ask, refused
from tests.api.conftest import Served
from tests.api.test_access import make_key


def test_they_are_kept_only_while_the_owner_wants_it(
    owner: httpx.Client, served: Served, assistant: str, passages: list[str]
) -> None:
    base = f"/v1/assistants/{assistant}"
    short = {"max_tokens": 8}
    key = make_key(owner, scope="user", assistants=[assistant])
    with served.client(key["key"]) as user:
        ask(user, assistant, "What does a berth cost?", **short)
        assert owner.get(f"{base}/conversations").json()["data"] == []
        assert owner.patch(base, json={"conversation_days": 3}).json()["conversation_days"] == 3
        headers = {"X-OpenWebUI-Chat-Id": "chat-1"}
        whole = ask(user, assistant, "What does a berth cost?", headers=headers, **short).json()
        stream = ask(
            user, assistant, "What to do in case of fire?", stream=True,
            headers={"X-OpenWebUI-Chat-Id": "chat-2"}, **short,
        ).text  # fmt: skip
        ask(user, assistant, "### Task:\nGenerate a title.", **short)
        events = [
            json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")
        ]
        turns = owner.get(f"{base}/conversations").json()["data"]
        assert {one["id"] for one in turns} == {whole["id"], events[0]["id"]}
        kept = next(one for one in turns if one["id"] == whole["id"])
        assert kept["answer"] == whole["choices"][0]["message"]["content"]
        assert kept["passages"] == [one["chunk_id"] for one in whole["sources"]]
        assert (kept["chat_id"], kept["key_id"]) == ("chat-1", key["id"])
        # Feedback needs no question now.
        given = user.post(
            "/v1/feedback",
            json={"model": assistant, "completion_id": whole["id"], "rating": "up"},
        ).json()
        assert given["question"] == "What does a berth cost?"
        by_chat = user.post(
            "/v1/feedback", json={"model": assistant, "rating": 1},
            headers={"X-OpenWebUI-Chat-Id": "chat-2"},
        ).json()  # fmt: skip
        assert by_chat["completion_id"] == events[0]["id"]
    assert owner.delete(f"{base}/conversations", params={"chat_id": "chat-2"}).json() == {
        "removed": 1
    }
    assert owner.patch(base, json={"conversation_days": None}).status_code == 200
    assert owner.get(f"{base}/conversations").json()["data"] == []
    log = (served.home.parent / "server.log").read_text()
    assert "berth" not in log.lower() and "chat-1" not in log


def test_days_are_bounded(owner: httpx.Client, assistant: str) -> None:
    for days in (0, 3_651):
        refused(owner.patch(f"/v1/assistants/{assistant}", json={"conversation_days": days}))
    assert owner.get(f"/v1/assistants/{assistant}").json()["conversation_days"] is None
