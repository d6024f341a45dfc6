"""Keys: required, scoped, bound, revocable; no way round them."""

from __future__ import annotations

import socket

import httpx
import pytest

from tests.api.conftest import Served


def make_key(owner: httpx.Client, **fields: object) -> dict[str, str]:
    made = owner.post("/v1/keys", json={"assistants": None, **fields})
    assert made.status_code == 201, made.text
    key: dict[str, str] = made.json()
    return key


OPEN_PATHS = ("/health", "/ready", "/openapi.json")


def test_every_other_endpoint_needs_a_key(served: Served) -> None:
    schema = httpx.get(f"{served.url}/openapi.json").json()
    checked = 0
    for path, operations in schema["paths"].items():
        if path in OPEN_PATHS:
            continue
        for method in operations:
            url = served.url + path.replace("{", "").replace("}", "")
            for headers in ({}, {"Authorization": "Bearer alcove_0_0"}, {"Authorization": "x"}):
                response = httpx.request(method, url, headers=headers)
                assert response.status_code == 401, (method, path)
                assert response.json()["error"]["type"] == "authentication_error"
                checked += 1
    assert checked > 50


def test_a_key_is_shown_once_and_revoked_at_once(owner: httpx.Client, served: Served) -> None:
    made = make_key(owner, label="temporary")
    secret = made["key"].rsplit("_", 1)[1]
    assert secret not in owner.get("/v1/keys").text
    assert secret.encode() not in (served.home / "node.db").read_bytes()
    assert secret.encode() not in (served.home / "node.db-wal").read_bytes()
    with served.client(made["key"]) as client:
        assert client.get("/v1/models").status_code == 200
        assert owner.delete(f"/v1/keys/{made['id']}").status_code == 204
        assert client.get("/v1/models").status_code == 401
    assert owner.delete(f"/v1/keys/{made['id']}").status_code == 404


def test_a_users_key_asks_its_assistants_and_nothing_else(
    owner: httpx.Client, served: Served, harbour: str
) -> None:
    made = make_key(owner, scope="user", assistants=["default"])
    with served.client(made["key"]) as user:
        assert [m["id"] for m in user.get("/v1/models").json()["data"]] == ["default"]
        for refused in (
            user.get(f"/v1/models/{harbour}"),
            user.post("/v1/search", json={"assistant": harbour, "query": "berth"}),
            user.post(
                "/v1/chat/completions",
                json={"model": harbour, "messages": [{"role": "user", "content": "berth?"}]},
            ),
            user.post("/v1/embeddings", json={"model": harbour, "input": "berth"}),
        ):
            assert refused.status_code == 404
        for refused in (
            user.get("/v1/assistants/default/documents"),
            user.post("/v1/assistants/default/documents", files=[("file", ("a.txt", b"a"))]),
            user.post("/v1/assistants", json={"name": "mine"}),
            user.get("/v1/keys"),
            user.get("/metrics"),
        ):
            assert refused.status_code == 403
            assert refused.json()["error"]["type"] == "permission_error"


def test_a_passage_of_another_assistant_is_unknown(
    owner: httpx.Client, served: Served, harbour: str
) -> None:
    search = {"assistant": harbour, "query": "berth"}
    chunk = owner.post("/v1/search", json=search).json()["data"][0]["chunk_id"]
    assert owner.get(f"/v1/passages/{chunk}").status_code == 200
    with served.client(make_key(owner, scope="user", assistants=["default"])["key"]) as user:
        assert user.get(f"/v1/passages/{chunk}").status_code == 404


def test_an_owner_bound_to_an_assistant_manages_its_documents_only(
    owner: httpx.Client, served: Served, harbour: str
) -> None:
    made = make_key(owner, scope="owner", assistants=["default"])
    with served.client(made["key"]) as bound:
        assert bound.get("/v1/assistants/default/documents").status_code == 200
        assert bound.get(f"/v1/assistants/{harbour}/documents").status_code == 404
        assert bound.post("/v1/assistants", json={"name": "more"}).status_code == 403
        assert bound.post("/v1/keys", json={"assistants": None}).status_code == 403
        assert bound.delete("/v1/assistants/default").status_code == 403


@pytest.mark.parametrize(
    "body",
    [{}, {"assistants": ["nobody"]}, {"assistants": None, "scope": "root"}],
)
def test_a_wrong_key_request_makes_none(owner: httpx.Client, body: dict[str, object]) -> None:
    before = len(owner.get("/v1/keys").json()["data"])
    assert owner.post("/v1/keys", json=body).status_code in (400, 404)
    assert len(owner.get("/v1/keys").json()["data"]) == before


def test_no_body_is_read_without_a_key(served: Served) -> None:
    """The answer comes while most of the announced body has not been sent (RFC 9110, 10.1.1)."""
    address = httpx.URL(served.url)
    with socket.create_connection((address.host, address.port), timeout=30) as connection:
        connection.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000\r\n\r\n" + b"[" * 1000
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("announced", [True, False])
def test_only_uploads_may_be_large(owner: httpx.Client, announced: bool) -> None:
    body = b'{"query": "' + b"x" * (3 << 20) + b'"}'
    headers = {"Content-Type": "application/json"}
    # Of a body in chunks nobody knows the length before it is there.
    content = body if announced else iter([body[: 1 << 20], body[1 << 20 :]])
    refused = owner.post("/v1/search", content=content, headers=headers)
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "too_large"


def test_a_bound_owner_reads_no_totals_of_the_node(owner: httpx.Client, served: Served) -> None:
    made = make_key(owner, scope="owner", assistants=["default"])
    with served.client(made["key"]) as bound:
        assert bound.get("/metrics").status_code == 403
