"""A client that hangs up ends its generation: seen in the engine of a node served from here."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from generation.engine import EngineError, EngineEvent, Finished
from generation.loop import EngineLoop, Row
from generation.transformers_engine import TransformersEngine
from tests.api.here import Here, serving_here, silent_upstream, until

ASKED_TOKENS = 1_000
# So that no machine is through with the answer before the server sees that nobody reads it.
SLOWEST_PASS_SECONDS = 0.02


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with serving_here(tmp_path_factory.mktemp("node") / "home") as here:
        yield here


@contextmanager
def asking(here: Here, stream: bool) -> Iterator[http.client.HTTPConnection]:
    """A client that has asked, and that hangs up when it is closed."""
    client = http.client.HTTPConnection(urlsplit(here.url).netloc)
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": "Write a long story."}],
        "use_context": False,
        "max_tokens": ASKED_TOKENS,
        "stream": stream,
    }
    headers = {"Authorization": f"Bearer {here.key}", "Content-Type": "application/json"}
    try:
        client.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        yield client
    finally:
        client.close()


@pytest.mark.parametrize("stream", [True, False])
def test_the_engine_stops_in_the_middle_of_the_answer(
    running: Here, stream: bool, monkeypatch: pytest.MonkeyPatch
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
    assert running.node.models is not None
    engine = running.node.models.engine
    assert isinstance(engine, TransformersEngine)
    model = engine._adapters._model
    hook = model.register_forward_pre_hook(lambda *_: time.sleep(SLOWEST_PASS_SECONDS))
    try:
        with asking(running, stream) as client:
            until(lambda: rows and len(rows[0].reply) >= 3)
            client.close()
            until(lambda: not engine._loop._rows())
    finally:
        hook.remove()
    (row,) = rows
    assert row.cancelled
    assert 3 <= len(row.reply) < ASKED_TOKENS
    # An answer that comes to an end of its own says so.
    assert not any(isinstance(event, Finished | EngineError) for event in events)


@pytest.mark.parametrize("stream", [True, False])
def test_an_upstream_that_has_sent_nothing_yet_is_left(tmp_path: Path, stream: bool) -> None:
    with (
        silent_upstream() as upstream,
        serving_here(tmp_path / "home", **upstream.settings) as here,
        asking(here, stream) as client,
    ):
        until(upstream.asked.is_set)
        assert not upstream.hung_up.is_set()
        client.close()
        until(upstream.hung_up.is_set)
