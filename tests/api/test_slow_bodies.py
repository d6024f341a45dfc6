"""A body that stops coming: the request is given up, others and the end of a stream are not."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from api.node.node import Node, create
from cli.listening import listen
from cli.server import NodeServer
from storage.settings import NodeSettings

WAIT_SECONDS = 60
SILENT_SECONDS = 1.0


@dataclass
class Running:
    address: str
    key: str

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, timeout=WAIT_SECONDS)

    def begin(self, path: str, kind: str, length: int) -> http.client.HTTPConnection:
        """The headers of a request, for a body of so many bytes."""
        connection = self.connect()
        connection.putrequest("POST", path)
        connection.putheader("Authorization", f"Bearer {self.key}")
        connection.putheader("Content-Type", kind)
        connection.putheader("Content-Length", str(length))
        connection.endheaders()
        return connection


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Without models, which no body has to do with."""
    settings = NodeSettings(home=tmp_path_factory.mktemp("node") / "home")
    key = create(settings).token
    with (
        pytest.MonkeyPatch.context() as patch,
        NodeServer(Node(settings), listen("127.0.0.1", 0), load=False) as server,
    ):
        patch.setattr("api.slow_bodies.SILENT_SECONDS", SILENT_SECONDS)
        running = Running(urlsplit(server.url).netloc, key)
        connection = running.connect()
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        yield running


FORM = "multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("path", "kind", "sent"),
    [
        ("/v1/keys", "application/json", b""),
        ("/v1/keys", "application/json", b'{"label"'),
        ("/v1/assistants/default/documents", FORM, b""),
        ("/v1/assistants/default/documents", FORM, b"--x\r\n"),
    ],
)
def test_a_body_that_stops_is_refused_and_its_connection_closed(
    running: Running, path: str, kind: str, sent: bytes
) -> None:
    connection = running.begin(path, kind, 1_000)
    connection.send(sent)
    response = connection.getresponse()
    assert response.status == 408
    assert json.loads(response.read())["error"]["code"] == "request_timeout"
    assert connection.sock is None or connection.sock.recv(1) == b""


def test_a_body_that_comes_slowly_is_read(running: Running) -> None:
    body = json.dumps({"label": "slow " * 20, "assistants": None}).encode()
    connection = running.begin("/v1/keys", "application/json", len(body))
    began = time.monotonic()
    for place in range(0, len(body), 8):
        time.sleep(SILENT_SECONDS / 10)
        connection.send(body[place : place + 8])
    assert time.monotonic() - began > SILENT_SECONDS
    assert connection.getresponse().status == 201
