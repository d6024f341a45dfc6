"""A question and its passages to a streamed, cited answer: the one call that `api` makes."""

from dataclasses import dataclass

from generation.engine import FinishReason, Message, TextDelta, Usage
from generation.passages import Passage


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """A conversation that ends with the user's question, and what was found for it.

    `passages` in order of rank. None asks for a reply without documents (a helper prompt of a
    front-end, or retrieval switched off); an empty tuple says that nothing was found.
    """

    messages: tuple[Message, ...]
    passages: tuple[Passage, ...] | None
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """A mark `[n]` at `text[start_index:end_index]` and the passage it stands for."""

    start_index: int
    end_index: int
    number: int
    passage: Passage


@dataclass(frozen=True, slots=True)
class AnswerStarted:
    """The first event, after which no refusal can follow.

    `passages` are those in the prompt; a mark `[n]` stands for `passages[n - 1]`.
    """

    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The last event: the whole text, as the deltas spelt it, and where each mark stands."""

    text: str
    citations: tuple[Citation, ...]
    passages: tuple[Passage, ...]
    usage: Usage
    finish_reason: FinishReason


AnswerEvent = AnswerStarted | TextDelta | Citation | Answer
