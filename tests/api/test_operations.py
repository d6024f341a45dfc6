"""Health while work is done, errors of one shape, the full queue."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.api.conftest import Served

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
