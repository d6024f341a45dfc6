"""Feedback: given by any key that sees the assistant, looked through by the owner."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Discriminator, Field, Tag, model_validator
from sqlalchemy.orm import Session

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node import open_webui
from api.node.auth import (
    Caller,
    NodeDep,
    OwnedAssistant,
    own_key,
    own_key_id,
    visible,
    visible_assistants,
)
from api.node.node import Node
from api.node.open_webui import LONGEST_REASON, SHORT, OpenWebUiRating, UnusableRecordError
from api.node.receipts import ErasedExamples, WithdrawnVersion
from retrieval import feedback
from retrieval.feedback import FeedbackError, NewFeedback, NothingToLearnError, TooMuchPendingError
from retrieval.forget import Erased, Forgotten
from retrieval.questions import LONGEST_TEXT, MOST_RELEVANT
from storage.example_tables import Feedback, FeedbackState
from storage.node_tables import Assistant

router = APIRouter(prefix="/v1", tags=["Feedback"], responses=responses(400, 401, 404))

MOST_METADATA = 16
EXPORTED_AT_ONCE = 200

Text = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
ChunkId = Annotated[str, Field(min_length=1, max_length=100)]
Rating = Literal[1, -1, 0, "up", "down"]
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
FeedbackId = Annotated[int, Path(ge=1, le=2**53)]
ChatId = Annotated[str | None, Header(alias="X-OpenWebUI-Chat-Id", max_length=SHORT)]
After = Annotated[int | None, Query(ge=1, le=2**53, description="`next_after` of the page before")]
Limit = Annotated[int, Query(ge=1, le=200)]


class PassageRating(BaseModel):
    """`rating` 0: the answer cites it, and nothing is said of it."""

    chunk_id: ChunkId
    rating: Rating = 0


class FeedbackRequest(BaseModel):
    """`question` and `answer` may be left out where the node keeps conversations and
    `completion_id` is the id of the chat completion. `sources` are all passages of the answer, in
    their order: erasing one erases the feedback. `metadata` as OpenAI has it."""

    assistant: str | None = Field(default=None, max_length=SHORT)
    model: str | None = Field(default=None, max_length=SHORT)
    completion_id: str | None = Field(default=None, min_length=1, max_length=SHORT)
    question: Text | None = None
    answer: Text | None = None
    rating: Rating
    reason: str | None = Field(default=None, min_length=1, max_length=LONGEST_REASON)
    corrected_answer: Text | None = None
    passages: list[PassageRating] = Field(default=[], max_length=MOST_RELEVANT)
    sources: list[ChunkId] = Field(default=[], max_length=MOST_RELEVANT)
    metadata: dict[MetadataKey, MetadataValue] = Field(default={}, max_length=MOST_METADATA)

    @model_validator(mode="after")
    def _one_assistant(self) -> FeedbackRequest:
        if self.assistant is not None and self.model not in (None, self.assistant):
            raise ValueError("assistant and model are two names for the same; give one of them")
        return self


class RatedPassageBody(BaseModel):
    chunk_id: str
    document_id: str
    rating: int


class FeedbackBody(RowBody):
    """`question_id` is the example that was made of it. `key_id` null: given at the node itself."""

    id: int
    assistant: str
    key_id: str | None
    completion_id: str | None
    chat_id: str | None
    created_at: int
    state: FeedbackState
    question: str
    answer: str | None
    rating: int
    reason: str | None
    corrected_answer: str | None
    passages: list[RatedPassageBody]
    metadata: dict[str, str]
    question_id: int | None


class ChangedFeedback(FeedbackBody):
    """`personal`: what learned from an example that is erased with this, and went out of
    service."""

    personal: list[WithdrawnVersion]


class FeedbackList(BaseModel):
    """Newest first. `next_after` is the `after` of the next page; null on the last."""

    data: list[FeedbackBody]
    next_after: int | None


def _kind(body: Any) -> str:
    given = body.get("type") if isinstance(body, dict) else getattr(body, "type", None)
    return "feedback" if given is None else "rating"


AnyFeedback = Annotated[
    Annotated[FeedbackRequest, Tag("feedback")] | Annotated[OpenWebUiRating, Tag("rating")],
    Discriminator(_kind),
]


@router.post("/feedback", status_code=201, responses=responses(429))
def give_feedback(
    node: NodeDep, caller: Caller, body: AnyFeedback, chat_id: ChatId = None
) -> ChangedFeedback:
    """Say what an answer was worth; the same key's earlier feedback to the completion is replaced.

    It teaches the assistant nothing before the owner has approved it. A record that Open WebUI
    exported of a rating is taken as it is.
    """
    if isinstance(body, OpenWebUiRating):
        name = body.data.model_id
        try:
            new = open_webui.read(body)
        except UnusableRecordError as error:
            raise ApiError(400, "unusable_record", str(error)) from error
    else:
        name = body.assistant or body.model or "default"
        new = _new(body, chat_id)
    with node.database.write() as session:
        assistant = visible(session, caller, name)
        try:
            key = own_key(session, caller)
            given, forgotten = feedback.give(session, assistant.id, key, new)
        except FeedbackError as error:
            raise ApiError(400, "invalid_feedback", str(error), param=error.field) from error
        except TooMuchPendingError as error:
            raise ApiError(429, "too_much_pending", str(error), retry_after=3_600) from error
        return _changed(given, assistant, forgotten)


@router.get("/feedback")
def list_own(node: NodeDep, caller: Caller, limit: Limit = 50, after: After = None) -> FeedbackList:
    """What this key has given."""
    with node.database.read() as session:
        found = feedback.list_page(
            session, caller.assistant_ids, limit=limit + 1, after=after, own=True,
            given_by=own_key_id(caller),
        )  # fmt: skip
        names = {one.id: one.name for one in visible_assistants(session, caller)}
    return _page(found, names, limit)


@router.delete("/feedback/{feedback_id}")
def erase_own(node: NodeDep, caller: Caller, feedback_id: FeedbackId) -> ErasedExamples:
    """Erase what this key has given, with the example that was made of it."""
    with node.database.write() as session:
        erased = feedback.remove_own(session, own_key_id(caller), feedback_id)
    return _erased(erased, feedback_id)


@router.get("/assistants/{assistant}/feedback", responses=responses(403))
def list_feedback(
    node: NodeDep,
    assistant: OwnedAssistant,
    state: FeedbackState | None = None,
    limit: Limit = 50,
    after: After = None,
) -> FeedbackList:
    """What everybody has given to an assistant."""
    with node.database.read() as session:
        found = feedback.list_page(
            session, [assistant.id], limit=limit + 1, after=after, state=state
        )
    return _page(found, {assistant.id: assistant.name}, limit)


@router.get(
    "/assistants/{assistant}/feedback/export",
    response_class=StreamingResponse,
    responses={**responses(403), 200: {"content": {"application/x-ndjson": {}}}},
)
def export_feedback(node: NodeDep, assistant: OwnedAssistant) -> StreamingResponse:
    """All of it as JSON lines, in the shape of the list, newest first."""
    return StreamingResponse(_lines(node, assistant), media_type="application/x-ndjson")


@router.post("/assistants/{assistant}/feedback/{feedback_id}/approve", responses=responses(403))
def approve_feedback(
    node: NodeDep, assistant: OwnedAssistant, feedback_id: FeedbackId
) -> FeedbackBody:
    """Make an example of it, to be seen among the questions."""
    try:
        with node.database.write() as session:
            given = _get(session, assistant, feedback_id)
            feedback.approve(session, given)
            return _body(given, assistant.name)
    except NothingToLearnError as error:
        raise ApiError(400, "nothing_to_learn", str(error)) from error


@router.post("/assistants/{assistant}/feedback/{feedback_id}/reject", responses=responses(403))
def reject_feedback(
    node: NodeDep, assistant: OwnedAssistant, feedback_id: FeedbackId
) -> ChangedFeedback:
    """Learn nothing from it; an example that was made of it is erased."""
    with node.database.write() as session:
        given = _get(session, assistant, feedback_id)
        return _changed(given, assistant, feedback.reject(session, given))


@router.delete("/assistants/{assistant}/feedback/{feedback_id}", responses=responses(403))
def erase_feedback(
    node: NodeDep, assistant: OwnedAssistant, feedback_id: FeedbackId
) -> ErasedExamples:
    """Erase one, with the example that was made of it."""
    with node.database.write() as session:
        erased = feedback.remove(session, assistant.id, feedback_id)
    return _erased(erased, feedback_id)


@router.delete("/assistants/{assistant}/feedback", responses=responses(403))
def erase_all_feedback(node: NodeDep, assistant: OwnedAssistant) -> ErasedExamples:
    """Erase all that was given to an assistant, with the examples that were made of it."""
    with node.database.write() as session:
        return ErasedExamples.of(feedback.remove_all(session, assistant.id))


def _new(body: FeedbackRequest, chat_id: str | None) -> NewFeedback:
    return NewFeedback(
        rating=_number(body.rating),
        completion_id=body.completion_id,
        chat_id=chat_id,
        question=body.question,
        answer=body.answer,
        reason=body.reason,
        corrected_answer=body.corrected_answer,
        ratings={one.chunk_id: _number(one.rating) for one in body.passages},
        sources=tuple(body.sources),
        details={"metadata": body.metadata} if body.metadata else {},
    )


def _number(rating: Rating) -> int:
    return {"up": 1, "down": -1}[rating] if isinstance(rating, str) else rating


def _get(session: Session, assistant: Assistant, feedback_id: int) -> Feedback:
    given = feedback.get(session, assistant.id, feedback_id)
    if given is None:
        raise _unknown(feedback_id)
    return given


def _erased(erased: Erased, feedback_id: int) -> ErasedExamples:
    if not erased.removed:
        raise _unknown(feedback_id)
    return ErasedExamples.of(erased)


def _changed(given: Feedback, assistant: Assistant, forgotten: Forgotten) -> ChangedFeedback:
    body = _body(given, assistant.name).model_dump()
    return ChangedFeedback.model_validate({**body, "personal": forgotten})


def _unknown(feedback_id: int) -> ApiError:
    return ApiError(404, "feedback_not_found", f"there is no feedback {feedback_id} for this key")


def _page(found: Sequence[Feedback], names: dict[int, str], limit: int) -> FeedbackList:
    shown = [_body(one, names[one.assistant_id]) for one in found[:limit]]
    return FeedbackList(data=shown, next_after=shown[-1].id if len(found) > limit else None)


def _lines(node: Node, assistant: Assistant) -> Iterator[str]:
    after: int | None = None
    while True:
        with node.database.read() as session:
            found = feedback.list_page(session, [assistant.id], limit=EXPORTED_AT_ONCE, after=after)
        for one in found:
            body = _body(one, assistant.name).model_dump(mode="json")
            yield json.dumps(body, ensure_ascii=False) + "\n"
        if len(found) < EXPORTED_AT_ONCE:
            return
        after = found[-1].id


def _body(given: Feedback, assistant: str) -> FeedbackBody:
    return FeedbackBody.of(
        given,
        assistant=assistant,
        chat_id=given.details.get("chat_id"),
        metadata=given.details.get("metadata", {}),
        passages=[
            RatedPassageBody(chunk_id=one.passage, document_id=one.document_id, rating=one.rating)
            for one in given.passages
        ],
    )
