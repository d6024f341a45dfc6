"""What every generator offers: a streamed reply to a conversation, with usage and cancellation."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One reply to generate.

    `temperature` 0 decodes greedily and makes `top_p` and `seed` meaningless. The reply ends before
    the first of the `stop` strings. `adapters` names the adapters that are active together for this
    reply, at most a shared and a personal one; each must be in `Engine.adapters`.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.messages:
            raise ValueError("messages is empty; give at least one message")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; give at least 1")
        if not 0.0 <= self.temperature <= 2.0:
            raise ValueError(f"temperature is {self.temperature}; give 0 to 2")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p is {self.top_p}; give more than 0 and at most 1")
        if any(not text for text in self.stop):
            raise ValueError("a stop string is empty; give at least one character")
        if len(set(self.adapters)) != len(self.adapters) or len(self.adapters) > 2:
            raise ValueError(
                "adapters names one adapter twice or more than two; give at most a pair"
            )


@dataclass(frozen=True, slots=True)
class Started:
    """The engine has accepted the request: no refusal can follow, only text or a failure."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the reply: never empty, never half a character."""

    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of every stream that did not fail."""

    reason: FinishReason
    usage: Usage


EngineEvent = Started | TextDelta | Finished


class EngineError(Exception):
    """A reply could not be made; the message may be shown to the user."""


class EngineBusyError(EngineError):
    """The queue is full; ask again after `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the generator is busy; try again in {retry_after} s")
        self.retry_after = retry_after


class PromptTooLongError(EngineError):
    """The conversation does not fit the context of the model."""

    def __init__(self, prompt_tokens: int, context_length: int) -> None:
        super().__init__(
            f"the conversation has {prompt_tokens} tokens, and the model reads and writes"
            f" {context_length} in all"
        )
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length


class UnknownAdapterError(EngineError):
    """The request names an adapter that the engine does not hold."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the generator holds no adapter called {name!r}")


class UpstreamError(EngineError):
    """A generator on another server failed, refused or broke off."""


class Engine(Protocol):
    """A generator.

    Called from one or several event loops. An engine computes in a thread or on a server of its
    own and never holds up the loop.
    """

    @property
    def model_id(self) -> str:
        """What the model is called: an id of a hub, a folder's name or the upstream's name."""
        ...

    @property
    def context_length(self) -> int:
        """Tokens that prompt and reply may have together."""
        ...

    @property
    def cites(self) -> bool:
        """Whether the model places citation marks itself when the prompt asks for them."""
        ...

    @property
    def adapters(self) -> frozenset[str]:
        """Names that a request may list in `adapters`."""
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt that these messages make, in the model's own chat template.

        Safe in any thread; takes milliseconds, so call it outside the event loop for long texts.
        """
        ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineEvent, None]:
        """Stream one `Started`, any number of `TextDelta` and one `Finished`.

        Closing the generator (`aclose`, or cancelling the task that reads it) ends the reply within
        one decoding step. Raises EngineBusyError, PromptTooLongError and UnknownAdapterError before
        `Started`, EngineError at any time.
        """
        ...

    async def close(self) -> None:
        """End all replies as "cancelled"; the engine cannot be used any more."""
        ...


async def complete(engine: Engine, request: GenerationRequest) -> tuple[str, Finished]:
    """The whole reply at once. Raises what `Engine.generate` raises."""
    pieces: list[str] = []
    async for event in engine.generate(request):
        match event:
            case TextDelta(text):
                pieces.append(text)
            case Finished():
                return "".join(pieces), event
    raise asyncio.InvalidStateError("the engine's stream ended without Finished")
