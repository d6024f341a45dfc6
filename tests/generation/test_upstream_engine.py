"""The upstream engine against a real server on loopback, which also misbehaves."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from generation.answer import answer
from generation.engine import (
    EngineBusyError,
    Finished,
    GenerationRequest,
    Message,
    PromptTooLongError,
    Started,
    TextDelta,
    UnknownAdapterError,
    UpstreamError,
    Usage,
    complete,
)
from generation.prompt import TAGS, build_prompt
from generation.upstream_engine import UpstreamEngine
from retrieval.search import Hit
from tests.generation.oracle import ask
from tests.generation.upstream_server import KEY, WORDS, Upstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream.served() as server:
        yield server


def engine_for(upstream: Upstream, model: str, **options: Any) -> UpstreamEngine:
    return UpstreamEngine(upstream.url, model, api_key=SecretStr(KEY), **options)


def reply(engine: UpstreamEngine, request: GenerationRequest) -> tuple[str, Finished]:
    async def run() -> tuple[str, Finished]:
        try:
            return await complete(engine, request)
        finally:
            await engine.close()

    return asyncio.run(run())


def test_a_reply_streams_through_with_its_usage(upstream: Upstream) -> None:
    async def events() -> list[object]:
        return [event async for event in engine_for(upstream, "good").generate(ask("Sea?"))]

    assert asyncio.run(events()) == [
        Started(),
        *(TextDelta(word) for word in WORDS),
        Finished("stop", Usage(11, 4)),
    ]


def test_the_request_carries_every_parameter_and_the_key(upstream: Upstream) -> None:
    request = ask("Sea?", 9, temperature=0.5, top_p=0.8, seed=3, stop=("END",))
    reply(engine_for(upstream, "good"), request)
    sent = upstream.bodies[-1]
    assert sent["messages"] == [{"role": "user", "content": "Sea?"}]
    assert (sent["max_tokens"], sent["temperature"], sent["top_p"]) == (9, 0.5, 0.8)
    assert (sent["seed"], sent["stop"], sent["stream"]) == (3, ["END"], True)
    assert upstream.headers[-1]["authorization"] == f"Bearer {KEY}"


def test_nothing_is_sent_but_what_the_docs_say(upstream: Upstream) -> None:
    """The whole request of an answer, against the list in docs/models.md."""
    found = Hit(
        chunk_id="chunk-0042", document_id="document-0042", external_id="external-0042",
        name="name-0042.md", title="Sea levels", heading="Depths", page=7, position=42,
        text="The sea is 4,200 m deep.", score=0.4242, dense=0.8642, lexical=0.9742,
    )  # fmt: skip
    other = replace(found, chunk_id="chunk-0043", text="Boats are blue.", dense=0.8543)
    conversation = (
        Message("system", "Answer like a sailor."),
        Message("user", "Hello!"),
        Message("assistant", "Ahoy [1]."),
        Message("user", "How deep is the sea?"),
    )
    request = GenerationRequest(conversation, max_tokens=9)

    async def run() -> None:
        engine = engine_for(upstream, "good")
        async with aclosing(answer(engine, request, (found, other))) as events:
            async for _ in events:
                pass
        await engine.close()

    asyncio.run(run())
    prompt = build_prompt(
        conversation, (found, other), count_tokens=lambda _: 0, prompt_tokens=1, cites=True
    ).messages
    assert upstream.bodies[-1] == {
        "model": "good",
        "messages": [{"role": turn.role, "content": turn.content} for turn in prompt],
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 1.0,
        "stop": list(TAGS),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    # Of a passage its text, title, heading and page, and neither an id, a file's name nor a score.
    sent = json.dumps(upstream.bodies[-1])
    assert all(part in sent for part in ("4,200 m", "Boats", "Sea levels", "Depths", "page 7"))
    assert not any(hidden in sent for hidden in ("-004", "0.4242", "0.8642", "0.9742", "0.8543"))
    headers = upstream.headers[-1]
    assert headers.pop("authorization") == f"Bearer {KEY}"
    assert headers.pop("user-agent") == "alcove"
    assert set(headers) == {
        "host", "connection", "accept", "accept-encoding", "content-type", "content-length"
    }  # fmt: skip


def test_a_reply_without_usage_is_counted_by_pieces(upstream: Upstream) -> None:
    engine = engine_for(upstream, "short")
    text, finished = reply(engine, ask("Sea?"))
    assert text == "".join(WORDS)
    assert finished == Finished("length", Usage(engine.count_tokens(ask("Sea?").messages), 4))


def test_closing_the_stream_hangs_up(upstream: Upstream) -> None:
    upstream.hung_up.clear()

    async def leave() -> None:
        engine = engine_for(upstream, "slow")
        async with aclosing(engine.generate(ask("Sea?"))) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break
        assert await asyncio.to_thread(upstream.hung_up.wait, 30)
        await engine.close()

    asyncio.run(leave())
    assert upstream.hung_up.is_set()


def test_closing_the_engine_cancels_what_streams(upstream: Upstream) -> None:
    async def close() -> object:
        engine = engine_for(upstream, "slow")
        events = engine.generate(ask("Sea?"))
        assert await anext(events) == Started()
        await engine.close()
        *_, last = [event async for event in events]
        with pytest.raises(UpstreamError, match="shut down"):
            await complete(engine, ask("Sea?"))
        return last

    last = asyncio.run(close())
    assert isinstance(last, Finished)
    assert last.reason == "cancelled"


def test_beyond_its_limit_the_engine_is_busy(upstream: Upstream) -> None:
    async def crowd() -> None:
        engine = engine_for(upstream, "slow", max_open=1)
        first = engine.generate(ask("Sea?"))
        await anext(first)
        with pytest.raises(EngineBusyError) as refused:
            await complete(engine, ask("Sea?"))
        assert refused.value.retry_after >= 1
        await first.aclose()
        # The place is free again.
        second = engine.generate(ask("Sea?"))
        assert await anext(second) == Started()
        await second.aclose()
        await engine.close()

    asyncio.run(crowd())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("broken", "broke off"),
        ("silent end", "broke off in the middle"),
        ("failing", "failed in the middle"),
        ("garbage", "no completion"),
        ("401", "refused the API key"),
        ("403", "refused the API key"),
        ("404", "does not know the model"),
        ("400", "status 400"),
        ("500", "status 500"),
        ("redirect", "status 307"),
    ],
)
def test_upstream_failures_are_clear_and_never_retried(
    upstream: Upstream, model: str, message: str
) -> None:
    before = len(upstream.bodies)
    with pytest.raises(UpstreamError, match=message) as failure:
        reply(engine_for(upstream, model), ask("Sea?"))
    assert len(upstream.bodies) == before + 1
    assert KEY not in str(failure.value)


def test_a_full_or_outgrown_upstream_says_so_in_our_terms(upstream: Upstream) -> None:
    with pytest.raises(EngineBusyError) as busy:
        reply(engine_for(upstream, "busy"), ask("Sea?"))
    assert busy.value.retry_after == 7
    with pytest.raises(PromptTooLongError):
        reply(engine_for(upstream, "long"), ask("Sea?"))


def test_silence_is_an_error_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/v1"
        with pytest.raises(UpstreamError, match="in time"):
            reply(UpstreamEngine(url, "m", timeout=0.3), ask("Sea?"))
    with pytest.raises(UpstreamError, match="cannot be reached"):
        reply(UpstreamEngine(url, "m"), ask("Sea?"))


def test_an_adapter_is_refused_before_anything_is_sent(upstream: Upstream) -> None:
    before = len(upstream.bodies)
    with pytest.raises(UnknownAdapterError, match="personal"):
        reply(engine_for(upstream, "good"), ask("Sea?", 5, "personal"))
    assert len(upstream.bodies) == before


def test_the_environment_adds_nothing_to_the_request(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-somebody-else")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-of-somebody-else")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    reply(UpstreamEngine(upstream.url, "good"), ask("Sea?"))
    assert upstream.headers[-1]["authorization"] == "Bearer none"
    assert not [value for value in upstream.headers[-1].values() if "somebody-else" in value]


@pytest.mark.parametrize("url", ["", "localhost:8000", "file:///etc/passwd", "http://"])
def test_what_is_no_http_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        UpstreamEngine(url, "m")
