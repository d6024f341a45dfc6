"""A server on loopback with OpenAI's chat completions, which misbehaves where it is told to."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse

from tests.loopback import served_on_loopback

KEY = "sk-secret-of-the-owner"
WORDS = ["The ", "sea ", "is ", "deep."]


class Upstream:
    """A server whose behaviour the model's name chooses; it notes what it is sent."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.hung_up = threading.Event()
        self.url = ""

    @classmethod
    @contextmanager
    def served(cls) -> Iterator[Upstream]:
        """One that answers on loopback while the block runs."""
        upstream, app = cls(), FastAPI()
        for path in ("/v1/chat/completions", "/elsewhere"):
            app.post(path)(upstream._complete)
        with served_on_loopback(app) as url:
            upstream.url = f"{url}/v1"
            yield upstream

    async def _complete(self, request: Request) -> object:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        error = {"message": f"no, {KEY}", "type": "t", "param": None, "code": None}
        match body["model"]:
            case "good":
                return _sse(_chunks("stop", usage=True))
            case "short":
                return _sse(_chunks("length", usage=False))
            case "slow":
                return _sse(self._never_ending(request))
            case "broken":
                return _sse(_breaking())
            case "silent end":
                return _sse(_chunks(None, usage=False))
            case "failing":
                return _sse(_failing())
            case "garbage":
                return PlainTextResponse("data: {oops\n\n", media_type="text/event-stream")
            case "busy":
                return JSONResponse({"error": error}, 429, {"Retry-After": "7"})
            case "long":
                long = {**error, "code": "context_length_exceeded"}
                return JSONResponse({"error": long}, 400)
            case "redirect":
                return RedirectResponse("/elsewhere", 307)
            case status:
                return JSONResponse({"error": error}, int(status))

    async def _never_ending(self, request: Request) -> AsyncIterator[dict[str, Any]]:
        try:
            while True:
                yield _chunk({"content": "wave "})
                await asyncio.sleep(0.01)
        finally:
            self.hung_up.set()


def _chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }


async def _chunks(reason: str | None, *, usage: bool) -> AsyncIterator[dict[str, Any]]:
    yield _chunk({"role": "assistant", "content": ""})
    for word in WORDS:
        yield _chunk({"content": word})
    if reason:
        yield _chunk({}, reason)
    if usage:
        counted = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
        yield {**_chunk({}), "choices": [], "usage": counted}


async def _breaking() -> AsyncIterator[dict[str, Any]]:
    yield _chunk({"content": "The "})
    raise ConnectionResetError


async def _failing() -> AsyncIterator[dict[str, Any]]:
    yield _chunk({"content": "The "})
    yield {"error": {"message": f"out of memory, {KEY}", "type": "server_error", "code": None}}


def _sse(chunks: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        async for chunk in chunks:
            yield f"data: {json.dumps(chunk)}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")
