"""A generator on another server that speaks OpenAI's protocol: vLLM, Ollama, llama.cpp, ..."""

import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import structlog
from pydantic import SecretStr

from generation.engine import (
    EngineBusyError,
    EngineEvent,
    Finished,
    FinishReason,
    GenerationRequest,
    Message,
    PromptTooLongError,
    Started,
    TextDelta,
    UnknownAdapterError,
    UpstreamError,
    Usage,
)

# The upstream's tokenizer is unknown; few bytes of UTF-8 per token, tokens per turn.
_BYTES_PER_TOKEN = 3
_TOKENS_PER_TURN = 8
_CONNECT_SECONDS = 10.0
# Weight of the newest reply in the mean duration that `retry_after` is computed from.
_NEWEST = 0.2

_REFUSALS = {
    401: "refused the API key",
    403: "refused the API key",
    404: "does not know the model",
}

log = structlog.get_logger(__name__)


class UpstreamEngine:
    """Passes replies through from an upstream server. See `Engine`.

    The whole conversation and the passages of documents leave this host, see docs/models.md;
    adapters never do, so a request that names one is refused. Nothing is retried, no redirect is
    followed.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: SecretStr | None = None,
        context_length: int = 8192,
        timeout: float = 60.0,
        max_open: int = 32,
    ) -> None:
        """No connection is made yet.

        Args:
            base_url: of the API, usually ending in "/v1".
            model: what the upstream calls the model.
            api_key: for servers that ask for one.
            context_length: tokens that prompt and reply may have together on the upstream.
            timeout: seconds without a byte after which a reply has failed.
            max_open: replies in progress beyond which `generate` raises EngineBusyError.

        Raises ValueError if `base_url` is no http or https URL.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{base_url!r} is no address; give one like http://host:8000/v1")
        self._model = model
        self._context_length = context_length
        self._max_open = max_open
        self._open = 0
        self._seconds_per_reply = 5.0
        self._closed = False
        limits = openai.Timeout(timeout, connect=_CONNECT_SECONDS)
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key.get_secret_value() if api_key else "none",
            max_retries=0,
            timeout=limits,
            # A redirect could carry documents to a host that the owner did not choose.
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False,
                timeout=limits,
                event_hooks={"request": [_say_nothing_of_this_host]},
            ),
        )
        # Set by the environment otherwise, and not for this upstream to see.
        self._client.organization = self._client.project = None
        log.info("questions and passages are sent to another server", host=parts.hostname)

    @property
    def model_id(self) -> str:
        return self._model

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def cites(self) -> bool:
        return True

    @property
    def adapters(self) -> frozenset[str]:
        return frozenset()

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """An estimate that is too high for English and about right for dense scripts."""
        size = sum(len(message.content.encode()) for message in messages)
        return math.ceil(size / _BYTES_PER_TOKEN) + _TOKENS_PER_TURN * len(messages)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineEvent, None]:
        if self._closed:
            raise UpstreamError("the generator has been shut down")
        for name in request.adapters:
            raise UnknownAdapterError(name)
        if self._open >= self._max_open:
            raise EngineBusyError(max(1, math.ceil(self._seconds_per_reply / self._max_open)))
        self._open += 1
        started = time.monotonic()
        try:
            async with aclosing(self._events(request)) as events:
                async for event in events:
                    yield event
            self._seconds_per_reply += _NEWEST * (
                time.monotonic() - started - self._seconds_per_reply
            )
        except (openai.APIError, ValueError) as error:
            if not self._closed:
                raise self._error(error, request) from error
            yield Finished("cancelled", Usage(self.count_tokens(request.messages), 0))
        finally:
            self._open -= 1

    async def close(self) -> None:
        self._closed = True
        await self._client.close()

    async def _events(self, request: GenerationRequest) -> AsyncGenerator[EngineEvent, None]:
        reason: FinishReason | None = None
        usage: Usage | None = None
        pieces = 0
        stream = await self._client.chat.completions.create(**self._parameters(request))
        async with stream:
            yield Started()
            async for chunk in stream:
                if chunk.usage:
                    usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                for choice in chunk.choices[:1]:
                    if choice.delta.content:
                        pieces += 1
                        yield TextDelta(choice.delta.content)
                    if choice.finish_reason:
                        reason = "length" if choice.finish_reason == "length" else "stop"
        if reason is None:
            raise UpstreamError("the upstream server broke off in the middle of the answer")
        yield Finished(reason, usage or Usage(self.count_tokens(request.messages), pieces))

    def _parameters(self, request: GenerationRequest) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "model": self._model,
            "messages": [
                {"role": message.role, "content": message.content} for message in request.messages
            ],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.seed is not None:
            parameters["seed"] = request.seed
        if request.stop:
            parameters["stop"] = list(request.stop)
        return parameters

    def _error(self, error: Exception, request: GenerationRequest) -> Exception:
        """The error that callers know, in our words: an upstream's may hold the key."""
        match error:
            case openai.APITimeoutError():
                reason = "did not answer in time"
            case openai.APIConnectionError():
                reason = "cannot be reached or broke off"
            case openai.APIStatusError(status_code=429 | 503):
                after = error.response.headers.get("retry-after", "")
                return EngineBusyError(int(after) if after.isdigit() else 5)
            case openai.APIStatusError(code="context_length_exceeded"):
                return PromptTooLongError(self.count_tokens(request.messages), self._context_length)
            case openai.APIStatusError(status_code=status):
                reason = _REFUSALS.get(status, f"answered with status {status}")
            case openai.APIError():
                reason = "failed in the middle of the answer"
            case _:
                reason = "sent something that is no completion"
        return UpstreamError(f"the upstream server {reason}")


async def _say_nothing_of_this_host(request: httpx.Request) -> None:
    """The client library would tell the operating system, the processor and Python's version."""
    for name in [name for name in request.headers if name.lower().startswith("x-stainless-")]:
        del request.headers[name]
    request.headers["User-Agent"] = "alcove"
