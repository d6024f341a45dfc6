"""Feedback and questions to learn from over HTTP: who may do what with them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api.node import open_webui
from api.node.open_webui import OpenWebUiRating, UnusableRecordError
from tests.api.asking import refused
from tests.api.conftest import Served
from tests.api.test_access import make_key


def rate(client: httpx.Client, assistant: str, **fields: Any) -> Any:
    body = {"assistant": assistant, "question": "What is a berth?", "rating": 1, **fields}
    answer = client.post("/v1/feedback", json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made.pop("personal") == []
    return made


def test_a_user_gives_the_owner_approves_and_an_example_is_there(
    owner: httpx.Client, served: Served, assistant: str, passages: list[str]
) -> None:
    base = f"/v1/assistants/{assistant}"
    berths, fires = passages
    with served.client(make_key(owner, scope="user", assistants=[assistant])["key"]) as user:
        made = rate(
            user, assistant, rating="down", answer="Free [1].", corrected_answer="42 crowns.",
            reason="wrong", metadata={"team": "quay"}, completion_id="c-1",
            passages=[{"chunk_id": berths, "rating": "up"}, {"chunk_id": fires, "rating": -1}],
        )  # fmt: skip
        assert made["state"] == "pending" and made["rating"] == -1
        assert made["metadata"] == {"team": "quay"}
        assert user.get("/v1/feedback").json()["data"] == [made]
        for answer in (
            user.get(f"{base}/feedback"),
            user.get(f"{base}/feedback/export"),
            user.post(f"{base}/feedback/{made['id']}/approve"),
            user.delete(f"{base}/feedback"),
            user.get(f"{base}/conversations"),
            user.patch(base, json={"instructions": "x"}),
            user.patch("/v1/keys/x", json={"feedback_is_approved": True}),
        ):
            refused(answer, 403)
    listed = owner.get(f"{base}/feedback", params={"state": "pending"}).json()
    assert listed == {"data": [made], "next_after": None}
    lines = owner.get(f"{base}/feedback/export").text.splitlines()
    assert [json.loads(line) for line in lines] == [made]
    approved = owner.post(f"{base}/feedback/{made['id']}/approve").json()
    (example,) = owner.get(f"{base}/questions", params={"origin": "feedback"}).json()["data"]
    assert example["id"] == approved["question_id"]
    assert (example["relevant"], example["not_relevant"]) == ([berths], [fires])
    assert example["answer"] == "42 crowns."
    erased = {"removed": 1, "personal": []}
    assert owner.delete(f"{base}/feedback/{made['id']}").json() == erased
    assert owner.get(f"{base}/questions", params={"origin": "feedback"}).json()["data"] == []
    refused(owner.delete(f"{base}/feedback/{made['id']}"), 404)


def test_feedback_goes_with_every_source_of_its_answer(
    owner: httpx.Client, assistant: str, passages: list[str]
) -> None:
    base = f"/v1/assistants/{assistant}"
    berths, fires = passages
    made = rate(owner, assistant, answer="42 crowns [1].", sources=passages)
    assert [one["chunk_id"] for one in made["passages"]] == passages
    owner.post(f"{base}/feedback/{made['id']}/approve")
    (example,) = owner.get(f"{base}/questions", params={"origin": "feedback"}).json()["data"]
    assert example["relevant"] == [berths]
    assert owner.delete(f"{base}/documents/{fires.partition('.')[0]}").is_success
    assert owner.get(f"{base}/feedback").json()["data"] == []
    assert owner.get(f"{base}/questions", params={"origin": "feedback"}).json()["data"] == []


def test_a_corrected_answer_is_an_example_of_feedback(
    owner: httpx.Client, assistant: str, passages: list[str]
) -> None:
    base = f"/v1/assistants/{assistant}"
    made = rate(
        owner, assistant, rating=-1, answer="Free [1].", corrected_answer="42.", sources=passages
    )
    assert owner.post(f"{base}/feedback/{made['id']}/approve").is_success
    for origin in ({"origin": "feedback"}, {}):
        example = owner.get(f"{base}/questions", params=origin).json()["data"][0]
        assert (example["origin"], example["relevant"]) == ("feedback", [passages[0]])


def test_another_key_sees_and_erases_nothing_of_it(
    owner: httpx.Client, served: Served, assistant: str, harbour: str
) -> None:
    mine = make_key(owner, scope="user", assistants=[assistant])
    other = make_key(owner, scope="user", assistants=[assistant])
    stranger = make_key(owner, scope="owner", assistants=[harbour])
    with (
        served.client(mine["key"]) as me,
        served.client(other["key"]) as they,
        served.client(stranger["key"]) as foreign,
    ):
        made = rate(me, assistant)
        assert they.get("/v1/feedback").json()["data"] == []
        refused(they.delete(f"/v1/feedback/{made['id']}"), 404)
        refused(foreign.get(f"/v1/assistants/{assistant}/feedback"), 404)
        refused(foreign.post("/v1/feedback", json={"assistant": assistant, "rating": 1}), 404)
        path = f"/v1/assistants/{harbour}/feedback/{made['id']}"
        for answer in (foreign.delete(path), foreign.post(f"{path}/approve")):
            refused(answer, 404)
        erased = {"removed": 1, "personal": []}
        assert me.delete(f"/v1/feedback/{made['id']}").json() == erased
        assert me.get("/v1/feedback").json()["data"] == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"rating": 2}, "rating"),
        ({"question": None}, "the question is missing"),
        ({"question": "q" * 10_001}, "question"),
        ({"passages": [{"chunk_id": "doc-nowhere.1.0", "rating": 1}]}, "doc-nowhere.1.0"),
        ({"metadata": {str(i): "v" for i in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"model": "default", "assistant": "other"}, "assistant and model"),
        ({"reason": "\ud800"}, "reason"),
        ({"type": "vote"}, "type"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(
    owner: httpx.Client, assistant: str, fields: dict[str, Any], named: str
) -> None:
    body = {"assistant": assistant, "question": "q?", "rating": 1, **fields}
    headers = {"Content-Type": "application/json"}
    sent = owner.post("/v1/feedback", content=json.dumps(body), headers=headers)
    assert named in refused(sent)


def test_a_passage_of_another_assistant_is_named_and_refused(
    owner: httpx.Client, assistant: str, harbour: str
) -> None:
    search = {"assistant": harbour, "query": "berth"}
    chunk = owner.post("/v1/search", json=search).json()["data"][0]["chunk_id"]
    body = {
        "assistant": assistant, "question": "q?", "rating": 1, "passages": [{"chunk_id": chunk}]
    }  # fmt: skip
    assert chunk in refused(owner.post("/v1/feedback", json=body))


def test_pages_of_feedback_hold_each_entry_once(owner: httpx.Client, assistant: str) -> None:
    made = [rate(owner, assistant)["id"] for _ in range(5)]
    seen: list[int] = []
    after = None
    while True:
        given = {"limit": 2} | ({} if after is None else {"after": after})
        page = owner.get(f"/v1/assistants/{assistant}/feedback", params=given).json()
        seen += [one["id"] for one in page["data"]]
        after = page["next_after"]
        if after is None:
            break
    assert seen == made[::-1]
    assert owner.delete(f"/v1/assistants/{assistant}/feedback").json() == {
        "removed": 5, "personal": []
    }  # fmt: skip


def test_a_trusted_key_s_feedback_is_approved_at_once(
    owner: httpx.Client, served: Served, assistant: str, passages: list[str]
) -> None:
    made = make_key(owner, scope="user", assistants=[assistant])
    assert made["feedback_is_approved"] is False
    rated = {"passages": [{"chunk_id": passages[0], "rating": 1}]}
    with served.client(made["key"]) as user:
        assert rate(user, assistant, **rated)["state"] == "pending"
        changed = owner.patch(f"/v1/keys/{made['id']}", json={"feedback_is_approved": True})
        assert changed.json()["feedback_is_approved"] is True
        given = rate(user, assistant, **rated)
        assert given["state"] == "approved" and given["question_id"] is not None
    refused(owner.patch("/v1/keys/nobody", json={"feedback_is_approved": True}), 404)


def record(assistant: str, passages: list[str], **changed: Any) -> dict[str, Any]:
    """A rating in the shape of Open WebUI's export (its models/feedbacks.py and
    ResponseMessage.svelte)."""
    messages = {
        "m-1": {"id": "m-1", "parentId": None, "role": "user", "content": "Price of a berth?"},
        "m-2": {
            "id": "m-2", "parentId": "m-1", "role": "assistant", "content": "42 crowns [2].",
            "sources": [
                {
                    "source": {"name": "Documents"}, "document": ["", ""],
                    "metadata": [{"source": f"/v1/passages/{p}", "name": "n"} for p in passages],
                }
            ],
        },
    }  # fmt: skip
    return {
        "id": "f-1", "user_id": "u-1", "version": 0, "type": "rating", "created_at": 1,
        "data": {
            "rating": 1, "model_id": assistant, "sibling_model_ids": None,
            "reason": "accurate_information", "comment": "thanks", "tags": [],
            "details": {"rating": 9},
        },
        "meta": {"model_id": assistant, "message_id": "m-2", "message_index": 2, "chat_id": "ch"},
        "snapshot": {"chat": {"id": "ch", "chat": {"history": {"messages": messages}}}},
    } | changed  # fmt: skip


def test_a_rating_that_open_webui_exported_teaches_what_the_answer_cites(
    owner: httpx.Client, assistant: str, passages: list[str]
) -> None:
    sent = owner.post("/v1/feedback", json=record(assistant, passages[::-1]))
    assert sent.status_code == 201, sent.text
    made = sent.json()
    told = open_webui.read(OpenWebUiRating.model_validate(record(assistant, passages)))
    assert told.is_first
    assert made["reason"] == "accurate_information: thanks"
    assert (made["question"], made["chat_id"]) == ("Price of a berth?", "ch")
    owner.post(f"/v1/assistants/{assistant}/feedback/{made['id']}/approve")
    (example,) = owner.get(
        f"/v1/assistants/{assistant}/questions", params={"origin": "feedback"}
    ).json()["data"]
    assert (example["relevant"], example["answer"]) == ([passages[0]], "42 crowns.")
    again = owner.post("/v1/feedback", json=record(assistant, passages)).json()
    listed = owner.get(f"/v1/assistants/{assistant}/feedback").json()["data"]
    assert [one["id"] for one in listed] == [again["id"]]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"meta": {"message_id": "m-9"}}, "meta.message_id"),
        ({"snapshot": None}, "meta.message_id"),
        ({"data": {"rating": 7, "model_id": "x"}}, "data.rating"),
        ({"data": {"rating": 1}}, "model_id"),
    ],
)
def test_a_record_that_cannot_be_mapped_is_refused_with_the_reason(
    owner: httpx.Client, assistant: str, changed: dict[str, Any], named: str
) -> None:
    body = record(assistant, [], **changed)
    if body["data"].get("model_id") == "x":
        body["data"]["model_id"] = assistant
    assert named in refused(owner.post("/v1/feedback", json=body))


JSON = st.recursive(
    st.none() | st.integers(-2, 2) | st.sampled_from(["m-1", "m-2", "user", "x", "\ud800"]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(
        st.sampled_from(
            ["chat", "history", "messages", "m-1", "m-2", "role", "parentId", "content", "sources",
             "metadata", "source"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150)
@given(damage=JSON, place=st.sampled_from(["snapshot", "chat", "history", "m-1", "m-2", "sources"]))
def test_any_record_is_read_or_refused(damage: Any, place: str) -> None:
    """Whatever stands in the place of a part of the snapshot, nothing but a refusal comes of it."""
    body = record("default", ["doc-1.1.0"])
    chat = body["snapshot"]["chat"]["chat"]
    messages = chat["history"]["messages"]
    where: dict[str, tuple[dict[str, Any], str]] = {
        "snapshot": (body["snapshot"], "chat"),
        "chat": (chat, "history"),
        "history": (chat["history"], "messages"),
        "m-1": (messages, "m-1"),
        "m-2": (messages, "m-2"),
        "sources": (messages["m-2"], "sources"),
    }
    holder, name = where[place]
    holder[name] = damage
    try:
        found = open_webui.read(OpenWebUiRating.model_validate(body))
    except (UnusableRecordError, ValidationError):
        assert place != "sources"
    else:
        assert found.question.encode() and found.answer.encode()


class TestQuestions:
    def test_all_that_can_be_learned_from_is_listed_edited_and_taken_away(
        self, owner: httpx.Client, assistant: str, passages: list[str]
    ) -> None:
        base = f"/v1/assistants/{assistant}/questions"
        line = {"question": "old?", "relevant": [passages[0]], "not_relevant": [passages[1]]}
        assert owner.post(base, content=json.dumps(line)).json() == {"stored": 1, "personal": []}
        given = rate(owner, assistant, passages=[{"chunk_id": passages[0], "rating": 1}])
        owner.post(f"/v1/assistants/{assistant}/feedback/{given['id']}/approve")
        pages: list[dict[str, Any]] = []
        after = None
        while True:
            where: dict[str, Any] = {"limit": 1} | ({} if after is None else {"after": after})
            page = owner.get(base, params=where).json()
            pages += page["data"]
            after = page["next_after"]
            if after is None:
                break
        assert [one["origin"] for one in pages] == ["upload", "feedback", "heading", "heading"]
        assert pages == owner.get(base).json()["data"]
        assert pages[0]["not_relevant"] == [passages[1]]
        new = {"question": "new?", "relevant": [passages[1]], "answer": "Yes."}
        edited = owner.put(f"{base}/{pages[0]['id']}", json=new).json()
        assert (edited["id"], edited["question"]) == (pages[0]["id"], "new?")
        assert (
            edited["personal"] == []
            and edited["not_relevant"] == []
            and edited["origin"] == "upload"
        )
        refused(owner.put(f"{base}/{pages[0]['id']}", json={**new, "relevant": ["nowhere"]}))
        refused(owner.put(f"{base}/99999999", json=new), 404)
        made = pages[2]
        assert made["relevant"]
        assert owner.delete(f"{base}/{made['id']}").json() == {"removed": 1, "personal": []}
        refused(owner.delete(f"{base}/{made['id']}"), 404)
        left = [one["id"] for one in owner.get(base, params={"origin": "heading"}).json()["data"]]
        assert left == [pages[3]["id"]]
