"""A client that hangs up ends its generation: seen in the engine of a node served from here."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from api.node.node import Node, create
from cli.listening import listen
from cli.server import NodeServer
from generation.engine import EngineError, EngineEvent, Finished
from generation.loop import EngineLoop, Row
from generation.transformers_engine import TransformersEngine
from storage.settings import NodeSettings

WAIT_SECONDS = 120
ASKED_TOKENS = 1_000
# So that no machine is through with the answer before the server sees that nobody reads it.
SLOWEST_PASS_SECONDS = 0.02


@dataclass
class Running:
    address: str
    key: str
    engine: TransformersEngine


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = NodeSettings(home=tmp_path_factory.mktemp("node") / "home")
    key = create(settings).token
    node = Node(settings)
    with NodeServer(node, listen("127.0.0.1", 0)) as server:
        until(lambda: server.check() or node.models)
        assert node.models is not None
        engine = node.models.engine
        assert isinstance(engine, TransformersEngine)
        yield Running(urlsplit(server.url).netloc, key, engine)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("stream", [True, False])
def test_the_engine_stops_in_the_middle_of_the_answer(
    running: Running, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Row] = []
    events: list[EngineEvent | EngineError] = []
    submit = EngineLoop.submit

    def watched(loop: EngineLoop, row: Row) -> None:
        deliver = row.deliver

        def watch(event: EngineEvent | EngineError) -> None:
            events.append(event)
            deliver(event)

        row.deliver = watch
        rows.append(row)
        submit(loop, row)

    monkeypatch.setattr(EngineLoop, "submit", watched)
    model = running.engine._adapters._model
    hook = model.register_forward_pre_hook(lambda *_: time.sleep(SLOWEST_PASS_SECONDS))
    client = http.client.HTTPConnection(running.address)
    try:
        body = {
            "model": "default",
            "messages": [{"role": "user", "content": "Write a long story."}],
            "use_context": False,
            "max_tokens": ASKED_TOKENS,
            "stream": stream,
        }
        headers = {"Authorization": f"Bearer {running.key}", "Content-Type": "application/json"}
        client.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        until(lambda: rows and len(rows[0].reply) >= 3)
        client.close()
        until(lambda: not running.engine._loop._rows())
    finally:
        client.close()
        hook.remove()
    (row,) = rows
    assert row.cancelled
    assert 3 <= len(row.reply) < ASKED_TOKENS
    # An answer that comes to an end of its own says so.
    assert not any(isinstance(event, Finished | EngineError) for event in events)
