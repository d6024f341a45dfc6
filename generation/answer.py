"""A question and its passages to a streamed, cited answer: the one call that `api` makes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from generation.citations import Citation, CitationWriter
from generation.engine import (
    Engine,
    Finished,
    FinishReason,
    GenerationRequest,
    Started,
    TextDelta,
    Usage,
)
from generation.prompt import (
    TAGS,
    Prompt,
    build_prompt,
    fit_conversation,
    is_helper_task,
    relevant_passages,
)
from retrieval.search import Hit
from storage.settings import RELEVANT_COSINE

NOTHING_FOUND = "I found nothing about this in the documents."

MOST_STOPS = 4
"""What OpenAI's API, and with it an upstream, takes."""

REPLY_SHARE = 0.25
"""Of the context, kept free of the prompt for a reply that may be that long."""


@dataclass(frozen=True, slots=True)
class AnswerStarted:
    """The first event, after which no refusal can follow.

    `passages` are those in the prompt; a mark `[n]` stands for `passages[n - 1]`.
    """

    passages: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The last event: the whole text, as the deltas spelt it, and where each mark stands."""

    text: str
    citations: tuple[Citation, ...]
    passages: tuple[Hit, ...]
    usage: Usage
    finish_reason: FinishReason


AnswerEvent = AnswerStarted | TextDelta | Citation | Answer


async def answer(
    engine: Engine,
    request: GenerationRequest,
    passages: tuple[Hit, ...] | None,
    relevant_cosine: float = RELEVANT_COSINE,
) -> AsyncGenerator[AnswerEvent, None]:
    """Stream one AnswerStarted, text with a Citation after each mark, and one Answer.

    Where no passage is relevant the answer says so and the model is not asked. A helper prompt of
    a front-end (`is_helper_task`) is passed on alone, without documents and without history.
    Closing the generator ends the work on the answer.

    Args:
        engine: makes the reply.
        request: its messages are the conversation, which ends with the user's question.
        passages: what was found for it, in order of rank; an empty tuple says that nothing was
            found, None asks for a reply without documents.
        relevant_cosine: what the best must reach (`relevant_passages`).

    Raises:
        ValueError: the conversation does not end with the user.
        EngineError: as `Engine.generate` raises it.
    """
    if passages is not None and not is_helper_task(request.messages):
        question = request.messages[-1].content
        passages = relevant_passages(question, passages, relevant_cosine)
        if not passages:
            yield AnswerStarted(())
            yield TextDelta(NOTHING_FOUND)
            yield Answer(NOTHING_FOUND, (), (), Usage(0, 0), "stop")
            return
    prompt = await asyncio.to_thread(_prompt, engine, request, passages)
    generation = replace(request, messages=prompt.messages)
    if prompt.passages:
        # A small model goes on from its answer with the next document.
        generation = replace(generation, stop=(*request.stop, *TAGS)[:MOST_STOPS])
    writer = CitationWriter(prompt.passages) if prompt.passages else None
    text: list[str] = []
    citations: list[Citation] = []
    async with aclosing(engine.generate(generation)) as events:
        async for event in events:
            pieces: list[TextDelta | Citation] = []
            match event:
                case Started():
                    yield AnswerStarted(prompt.passages)
                case TextDelta():
                    pieces = writer.feed(event.text) if writer else [event]
                case Finished() if writer:
                    pieces = writer.finish(complete=event.reason == "stop")
            for piece in pieces:
                if isinstance(piece, TextDelta):
                    text.append(piece.text)
                else:
                    citations.append(piece)
                yield piece
            if isinstance(event, Finished):
                yield Answer(
                    "".join(text), tuple(citations), prompt.passages, event.usage, event.reason
                )


def _prompt(engine: Engine, request: GenerationRequest, passages: tuple[Hit, ...] | None) -> Prompt:
    # The reply may ask for more than is left: the engine cuts it off where the context ends.
    reply = min(request.max_tokens, int(REPLY_SHARE * engine.context_length))
    room = engine.context_length - reply
    if is_helper_task(request.messages):
        conversation = request.messages[-1:]
    elif passages:
        return build_prompt(
            request.messages,
            passages,
            count_tokens=engine.count_tokens,
            prompt_tokens=room,
            cites=engine.cites,
        )
    else:
        conversation = request.messages
    messages = fit_conversation(conversation, count_tokens=engine.count_tokens, prompt_tokens=room)
    return Prompt(messages, ())
