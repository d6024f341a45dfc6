"""Health while work is done, errors of one shape, the full queue."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.api.conftest import Served
from tests.retrieval import documents
from tests.served import wait

LONG = {"messages": [{"role": "user", "content": "Write a long story."}], "use_context": False}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("GET", "/nothing", 404, "unknown_url"),
        ("PUT", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/jobs/job-0", 404, "job_not_found"),
        ("GET", "/v1/assistants/default/documents?limit=0", 400, "invalid_request"),
        ("GET", "/v1/assistants/default/documents?after=x", 400, "unknown_document"),
    ],
)
def test_every_refusal_has_the_one_shape(
    owner: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    refused = owner.request(method, path)
    assert refused.status_code == status
    error = refused.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code


def test_broken_json_is_a_400(owner: httpx.Client) -> None:
    refused = owner.post(
        "/v1/search", content=b'{"query": ', headers={"Content-Type": "application/json"}
    )
    assert refused.status_code == 400


def test_metrics_count_routes_and_name_nothing(owner: httpx.Client, harbour: str) -> None:
    owner.post("/v1/search", json={"assistant": harbour, "query": "unmistakable"})
    text = owner.get("/metrics").text
    assert 'route="/v1/search"' in text
    assert "alcove_passages" in text
    assert harbour not in text
    assert "unmistakable" not in text


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_health_answers_while_a_large_document_is_read_and_answers_are_written(
    served: Served, owner: httpx.Client, assistant: str
) -> None:
    """That it does at all; how soon, `benchmarks` measure."""
    pages = [[f"Page {n}: the loom of workshop {n} has {n % 7} shafts."] * 10 for n in range(40)]
    files = [("file", ("long.pdf", documents.pdf(pages)))]
    sent = owner.post(f"/v1/assistants/{assistant}/documents", files=files).json()

    def is_open() -> bool:
        return owner.get(f"/v1/jobs/{sent['id']}").json()["finished_at"] is None

    def ask(_: int) -> int:
        answered = 0
        with served.client() as client:
            while is_open():
                body = {"model": "default", "max_tokens": 60, **LONG}
                answer = client.post("/v1/chat/completions", json=body)
                assert answer.status_code in (200, 429)
                answered += answer.status_code == 200
        return answered

    healthy = 0
    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask, number) for number in range(2)]
        while is_open():
            assert httpx.get(f"{served.url}/health", timeout=120).status_code == 200
            healthy += 1
        assert sum(one.result() for one in asking) > 0
    assert wait(owner, sent["id"])["state"] == "done"
    assert healthy > 20


def test_the_queue_is_bounded_and_says_when_to_come_back(served: Served) -> None:
    """Two rows run and one waits (settings of the fixture): of eight, some are turned away."""

    def ask(_: int) -> httpx.Response:
        with served.client() as client:
            return client.post(
                "/v1/chat/completions", json={"model": "default", "max_tokens": 60, **LONG}
            )

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(ask, range(8)))
    statuses = [response.status_code for response in responses]
    assert set(statuses) == {200, 429}
    refused = next(response for response in responses if response.status_code == 429)
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["error"]["type"] == "rate_limit_error"
