"""POST /v1/chat/completions: a question to a cited answer, in OpenAI's shapes.

Sources come three ways: `url_citation` annotations on the marks, a list `sources` in rank order
([n] in the text is `sources[n - 1]`), and, in a stream, the source event that Open WebUI reads.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated, Any, Literal, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from api.errors import ApiError, responses
from api.node.auth import Caller, ModelsDep, NodeDep, visible
from api.node.chat_shapes import (
    ROLES,
    Annotation,
    AnswerMessage,
    ChatCompletion,
    ChatRequest,
    Choice,
    CompletionUsage,
    Source,
    UrlCitation,
)
from api.node.conversations import Keeper
from api.node.instructions import standing
from api.node.node import Models, Node
from api.node.search import LONGEST_QUESTION, find
from generation.answer import Answer, AnswerEvent, AnswerStarted, answer
from generation.citations import Citation
from generation.engine import (
    EngineBusyError,
    EngineError,
    FinishReason,
    GenerationRequest,
    Message,
    PromptTooLongError,
    TextDelta,
    Usage,
)
from generation.prompt import is_helper_task
from retrieval.search import Hit
from storage.declarative import now
from storage.keys import Principal
from storage.node_tables import Assistant

router = APIRouter(
    prefix="/v1/chat", tags=["OpenAI"], responses=responses(400, 401, 404, 429, 502, 503)
)

DISCONNECT_POLL_SECONDS = 0.2
# Characters; more than any context that a generator here has.
LONGEST_CONVERSATION = 400_000
Result = TypeVar("Result")
ChatId = Annotated[str | None, Header(alias="X-OpenWebUI-Chat-Id", max_length=300)]


@router.post(
    "/completions",
    response_model=ChatCompletion,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def complete(
    node: NodeDep,
    models: ModelsDep,
    caller: Caller,
    request: Request,
    chat: ChatRequest,
    chat_id: ChatId = None,
) -> ChatCompletion | StreamingResponse:
    """Answer the last message from the assistant's documents.

    Prompts that a front-end makes for itself (`### Task:`) are answered without documents.
    """
    wanted, passages, keeper = await to_thread.run_sync(
        _prepare, node, models, caller, chat, chat_id
    )
    events = answer(models.engine, wanted, passages, node.settings.relevant_cosine)
    try:
        started = await _while_heard(request, anext(events))
    except EngineError as error:
        raise _refusal(error) from error
    if not isinstance(started, AnswerStarted):
        raise TypeError(f"an answer began with {started}")
    completion_id = f"chatcmpl-{secrets.token_hex(12)}"

    async def keep(final: Answer) -> None:
        if keeper is not None:
            await to_thread.run_sync(keeper.keep, completion_id, final)

    if chat.stream:
        stream = _stream(events, started, chat, completion_id, keep)
        return StreamingResponse(stream, media_type="text/event-stream", headers=_NO_BUFFER)
    try:
        final = await _while_heard(request, _whole(events))
        reason = _reason(final.finish_reason)
    except EngineError as error:
        raise _refusal(error) from error
    await keep(final)
    return ChatCompletion(
        id=completion_id,
        created=now(),
        model=chat.model,
        choices=[
            Choice(
                message=AnswerMessage(
                    content=final.text, annotations=[_annotation(c) for c in final.citations]
                ),
                finish_reason=reason,
            )
        ],
        usage=_usage(final.usage),
        sources=_sources(final.passages),
    )


_NO_BUFFER = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def _prepare(
    node: Node, models: Models, caller: Principal, chat: ChatRequest, chat_id: str | None
) -> tuple[GenerationRequest, tuple[Hit, ...] | None, Keeper | None]:
    """What to ask the generator, the passages for it, and what keeps the answer if it is to be
    kept; runs outside the event loop."""
    with node.database.read() as session:
        assistant = visible(session, caller, chat.model)
        instructions = standing(session, assistant, caller)
    messages = [
        Message(ROLES[turn.role], turn.text()) for turn in chat.messages if turn.role in ROLES
    ]
    if sum(len(message.content) for message in messages) > LONGEST_CONVERSATION:
        message = f"the conversation has more than {LONGEST_CONVERSATION:,} characters"
        raise ApiError(400, "context_length_exceeded", message, param="messages")
    stop = [chat.stop] if isinstance(chat.stop, str) else chat.stop or []
    given = chat.max_completion_tokens or chat.max_tokens or node.settings.answer_tokens
    request = GenerationRequest(
        messages=(*instructions, *messages),
        max_tokens=min(given, node.settings.max_answer_tokens),
        temperature=chat.temperature or 0.0,
        top_p=chat.top_p or 1.0,
        seed=chat.seed,
        stop=tuple(text for text in stop if text),
        adapters=node.personal.generator_adapters(assistant.id),
    )
    keeper = Keeper.of(node, assistant, caller, chat_id, request.messages)
    return request, _passages(node, models, assistant, chat, messages), keeper


def _passages(
    node: Node, models: Models, assistant: Assistant, chat: ChatRequest, messages: list[Message]
) -> tuple[Hit, ...] | None:
    if not chat.use_context or is_helper_task(messages):
        return None
    question = messages[-1].content
    if not question.strip():
        raise ApiError(400, "empty_question", "the last message is empty", param="messages")
    hits = find(models, assistant, question[:LONGEST_QUESTION], node.settings.passages, chat.filter)
    return tuple(hits)


async def _whole(events: AsyncGenerator[AnswerEvent, None]) -> Answer:
    """The last event."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Answer):
                return event
    raise RuntimeError("an answer ended without its last event")


async def _while_heard(request: Request, work: Awaitable[Result]) -> Result:
    """What `work` gives; a client that hangs up ends it, and with it the generation."""
    reading = asyncio.ensure_future(work)
    try:
        while not reading.done():
            await asyncio.wait([reading], timeout=DISCONNECT_POLL_SECONDS)
            if not reading.done() and await request.is_disconnected():
                raise ApiError(499, "client_closed_request", "the client hung up")
        return reading.result()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _stream(
    events: AsyncGenerator[AnswerEvent, None],
    started: AnswerStarted,
    chat: ChatRequest,
    completion_id: str,
    keep: Callable[[Answer], Awaitable[None]],
) -> AsyncIterator[str]:
    """Server-sent events; closing this, as a client that hangs up does, ends the generation."""
    head = {
        "id": completion_id,
        "object": "chat.completion.chunk",
        "created": now(),
        "model": chat.model,
    }

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _sse({**head, "choices": [choice], **more})

    first: dict[str, Any] = {}
    if started.passages:
        first["event"] = _open_webui_event(started.passages)
    async with aclosing(events):
        yield chunk({"role": "assistant", "content": ""}, **first)
        try:
            async for event in events:
                if isinstance(event, TextDelta):
                    yield chunk({"content": event.text})
                if isinstance(event, Answer):
                    annotations = [_annotation(c).model_dump() for c in event.citations]
                    sources = [source.model_dump() for source in _sources(event.passages)]
                    delta = {"annotations": annotations} if annotations else {}
                    reason = _reason(event.finish_reason)
                    await keep(event)
                    yield chunk(delta, reason, sources=sources)
                    if chat.stream_options and chat.stream_options.include_usage:
                        usage = _usage(event.usage).model_dump()
                        yield _sse({**head, "choices": [], "usage": usage})
        except EngineError as error:
            yield _sse({"choices": [], **_refusal(error).body()})
    yield "data: [DONE]\n\n"


def _open_webui_event(passages: tuple[Hit, ...]) -> dict[str, Any]:
    """Open WebUI's source event. Its front-end counts distinct `metadata.source`s as [1], [2], ...;
    ours are no http URLs, for which it would ask a third party for an icon."""
    return {
        "type": "source",
        "data": {
            "source": {"name": "Documents"},
            "document": [passage.text for passage in passages],
            "metadata": [{"source": _url(p), "name": _title(p)} for p in passages],
            "distances": [round(passage.score, 4) for passage in passages],
        },
    }


def _sources(passages: tuple[Hit, ...]) -> list[Source]:
    return [
        Source(
            number=number,
            chunk_id=passage.chunk_id,
            document_id=passage.document_id,
            title=passage.title,
            heading=passage.heading,
            page=passage.page,
            text=passage.text,
            score=passage.score,
            url=_url(passage),
        )
        for number, passage in enumerate(passages, 1)
    ]


def _annotation(citation: Citation) -> Annotation:
    return Annotation(
        url_citation=UrlCitation(
            start_index=citation.start_index,
            end_index=citation.end_index,
            url=_url(citation.passage),
            title=_title(citation.passage),
        )
    )


def _url(passage: Hit) -> str:
    return f"/v1/passages/{passage.chunk_id}"


def _title(passage: Hit) -> str:
    page = f", page {passage.page}" if passage.page is not None else ""
    return f"{passage.heading or passage.title}{page}"


def _usage(usage: Usage) -> CompletionUsage:
    return CompletionUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )


def _reason(reason: FinishReason) -> Literal["stop", "length"]:
    """Raises EngineError where the node stopped in the middle of the answer."""
    if reason == "cancelled":
        raise EngineError("the node is stopping; the answer is not complete")
    return reason


def _sse(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _refusal(error: EngineError) -> ApiError:
    if isinstance(error, EngineBusyError):
        return ApiError(429, "engine_busy", str(error), retry_after=error.retry_after)
    if isinstance(error, PromptTooLongError):
        return ApiError(400, "context_length_exceeded", str(error), param="messages")
    return ApiError(502, "generator_failed", str(error))
