"""Personal adapters over HTTP, on a real node."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import Served, Upload
from tests.nodes import until
from tests.personal.towns import PLACES, question, rule, story
from tests.served import alcove_json, start_node, wait


def files() -> dict[str, bytes]:
    stories = {f"{place}-a.txt": story(place).encode() for place in PLACES}
    return stories | {f"{place}-b.txt": rule(place).encode() for place in PLACES}


def labels() -> str:
    lines = [{"question": question(p), "relevant": [f"{p}-b.txt"]} for p in PLACES]
    return "\n".join(json.dumps(line) for line in lines)


@pytest.fixture
def taught(owner: httpx.Client, assistant: str, upload: Upload) -> str:
    """The path of the personal adapters of an assistant that has examples."""
    upload(assistant, files(), external_id=list(files()))
    sent = owner.post(f"/v1/assistants/{assistant}/questions", content=labels())
    assert sent.json() == {"stored": len(PLACES), "personal": []}
    return f"/v1/assistants/{assistant}/personal"


def found(client: httpx.Client, assistant: str, place: str) -> str:
    body = {"query": question(place), "assistant": assistant, "mode": "dense", "limit": 1}
    text: str = client.post("/v1/search", json=body).json()["data"][0]["text"]
    return text


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_from_training_to_reset(owner: httpx.Client, assistant: str, taught: str) -> None:
    assert found(owner, assistant, "quarry") == story("quarry")
    accepted = owner.post(taught, json={})
    assert accepted.status_code == 202, accepted.text
    job = accepted.json()
    assert (job["kind"], [item["name"] for item in job["items"]]) == ("personal", ["retriever"])
    assert owner.get(taught).json()["jobs"] == [job["id"]]
    assert code(owner.post(taught, json={})) == (409, "training_under_way")
    done = wait(owner, job["id"])
    (made,) = done["result"]["versions"]
    assert made["state"] == "served" and made["after"] > made["before"]
    assert found(owner, assistant, "quarry") == rule("quarry")
    (version,) = owner.get(taught).json()["data"]
    assert version.items() >= {
        "id": made["version"], "kind": "retriever", "state": "served", "shared": None,
        "examples": len(PLACES), "before": made["before"], "after": made["after"],
    }.items()  # fmt: skip
    url = f"{taught}/versions/{version['id']}"
    assert owner.put(url, json={"state": "served"}).json() == version
    assert code(owner.put(url, json={"state": "worse"})) == (400, "invalid_request")
    assert code(owner.put(f"{taught}/versions/{2**40}", json={"state": "served"})) == (
        404,
        "version_not_found",
    )
    assert owner.delete(taught).status_code == 204
    assert owner.get(taught).json()["data"] == []
    assert found(owner, assistant, "quarry") == story("quarry")


def test_too_little_is_refused(owner: httpx.Client, assistant: str) -> None:
    path = f"/v1/assistants/{assistant}/personal"
    assert code(owner.post(path, json={})) == (409, "too_few_examples")
    assert code(owner.post(path, json={"adapters": ["generator"]})) == (409, "too_few_examples")
    assert code(owner.post(path, json={"adapters": []})) == (400, "invalid_request")


@pytest.mark.long
def test_a_schedule_trains_by_itself(owner: httpx.Client, taught: str) -> None:
    assert owner.put(f"{taught}/schedule", json={"hours": 1}).json() == {"hours": 1}
    assert owner.get(taught).json()["schedule_hours"] == 1
    until(lambda: owner.get(taught).json()["data"])
    assert owner.put(f"{taught}/schedule", json={"hours": 0}).status_code == 400
    assert owner.put(f"{taught}/schedule", json={"hours": None}).json() == {"hours": None}


def test_only_owners_of_the_assistant_may(
    served: Served, owner: httpx.Client, assistant: str, harbour: str
) -> None:
    path = f"/v1/assistants/{assistant}/personal"
    for scope, names, status in (("user", [assistant], 403), ("owner", [harbour], 404)):
        given = {"label": "x", "scope": scope, "assistants": names}
        key = owner.post("/v1/keys", json=given).json()["key"]
        with served.client(key) as other:
            refused = [
                other.post(path, json={}),
                other.get(path),
                other.put(f"{path}/versions/1", json={"state": "served"}),
                other.put(f"{path}/schedule", json={"hours": 1}),
                other.delete(path),
            ]
        assert [one.status_code for one in refused] == [status] * len(refused)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_killed_node_goes_on_with_its_training(tmp_path: Path) -> None:
    home = tmp_path / "home"
    key = alcove_json("node", "init", "--home", str(home))["key"]
    process, url = start_node(home)
    try:
        with client(url, key) as owner:
            parts = [("file", (name, content)) for name, content in files().items()]
            sent = owner.post(
                "/v1/assistants/default/documents", files=parts, data={"external_id": list(files())}
            )
            assert wait(owner, sent.json()["id"])["state"] == "done"
            owner.post("/v1/assistants/default/questions", content=labels())
            job_id = owner.post("/v1/assistants/default/personal", json={}).json()["id"]
            until(lambda: trainings(process.pid))
            (training,) = trainings(process.pid)
        process.kill()
        process.wait()
        until(lambda: not Path(f"/proc/{training}/cmdline").exists() or not name_of(training))
        process, url = start_node(home)
        with client(url, key) as owner:
            job = wait(owner, job_id)
            assert [item["state"] for item in job["items"]] == ["done"]
            assert found(owner, "default", "dairy") == rule("dairy")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def client(url: str, key: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=url, headers=headers, timeout=120)


def trainings(pid: int) -> list[int]:
    """The training processes among a node's children."""
    children: list[Any] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += (task / "children").read_text().split()
    return [int(child) for child in children if b"personal.training_process" in name_of(child)]


def name_of(pid: Any) -> bytes:
    """The command of a process; empty for one that has ended."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()
