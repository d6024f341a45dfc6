"""What an assistant can learn from: labelled questions, and those that headings make."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node.auth import NodeDep, OwnedAssistant
from api.node.node import Node
from api.node.receipts import ErasedExamples, WithdrawnVersion
from retrieval import headings, questions
from retrieval.headings import MadeQuestion
from retrieval.questions import QuestionError
from storage.example_tables import LabelledQuestion, QuestionOrigin

router = APIRouter(
    prefix="/v1/assistants/{assistant}/questions",
    tags=["Federation"],
    responses=responses(400, 401, 403, 404),
)

NUMBER = re.compile(r"[0-9]{1,15}")
"""The id of a labelled question; the others come from headings."""

JSON_LINES: dict[str, Any] = {
    "requestBody": {
        "description": "A question in each line, as JSON.",
        "required": True,
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


class Origin(StrEnum):
    """Where a question comes from: the owner, approved feedback, or a heading of a document."""

    UPLOAD = "upload"
    FEEDBACK = "feedback"
    HEADING = "heading"


_FROM_FEEDBACK = (QuestionOrigin.FEEDBACK, QuestionOrigin.CORRECTION)
_ORIGINS: dict[Origin | None, tuple[QuestionOrigin, ...]] = {
    None: tuple(QuestionOrigin),
    Origin.UPLOAD: (QuestionOrigin.UPLOAD,),
    Origin.FEEDBACK: _FROM_FEEDBACK,
}


class QuestionBody(RowBody):
    """`relevant` holds ids of passages, and of documents that are relevant as a whole;
    `not_relevant` the same of what does not answer it. The id of one that was made from a heading
    is that of the first passage below it."""

    id: int | str
    origin: Origin
    question: str
    relevant: list[str]
    not_relevant: list[str]
    answer: str | None
    subject: str | None
    created_at: int | None


class QuestionList(BaseModel):
    """`next_after` is the `after` of the next page; null on the last."""

    data: list[QuestionBody]
    next_after: str | None


class EditedQuestion(BaseModel):
    """What a line of an upload holds; all of it is replaced."""

    question: str
    relevant: list[str]
    not_relevant: list[str] = []
    answer: str | None = None
    subject: str | None = None


class ReplacedQuestion(QuestionBody):
    """`personal`: what learned from the old one and went out of service."""

    personal: list[WithdrawnVersion]


class Stored(BaseModel):
    """`stored` counts the lines. `personal`: what learned from those that they replaced, and went
    out of service."""

    stored: int
    personal: list[WithdrawnVersion]


@router.post("", status_code=201, openapi_extra=JSON_LINES)
async def add_questions(node: NodeDep, assistant: OwnedAssistant, request: Request) -> Stored:
    """Labelled questions as JSON lines: {"question", "relevant": [...], "answer", "subject"}.

    `relevant`, and `not_relevant` for what seems to answer it and does not, name passages, or
    documents by id or external id. They replace those of the same question and subject; what is
    there already stays as it is. They stay on the node; shared training sees no more of them than
    its plan allows.
    """
    body = await request.body()
    return await to_thread.run_sync(_add_questions, node, assistant.id, body)


@router.get("")
def list_questions(
    node: NodeDep,
    assistant: OwnedAssistant,
    origin: Origin | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
    after: Annotated[str | None, Query(max_length=100)] = None,
) -> QuestionList:
    """What the assistant can learn from: labelled questions in the order in which they came, then
    those that headings make."""
    start = int(after) if after is not None and NUMBER.fullmatch(after) else None
    found: list[QuestionBody] = []
    with node.database.read() as session:
        if origin is not Origin.HEADING and (after is None or start is not None):
            labelled = questions.list_page(
                session, assistant.id, limit=limit + 1, after=start or 0, origins=_ORIGINS[origin]
            )
            found = [_question(one) for one in labelled]
        if origin in (None, Origin.HEADING) and len(found) <= limit:
            place = after if start is None else None
            try:
                made = headings.list_page(
                    session, assistant.id, limit=limit + 1 - len(found), after=place
                )
            except KeyError as error:
                message = f"there is no question {after!r} to go on after"
                raise ApiError(400, "unknown_question", message, param="after") from error
            found += [_made(one) for one in made]
    shown = found[:limit]
    return QuestionList(data=shown, next_after=str(shown[-1].id) if len(found) > limit else None)


@router.put("/{question_id}")
def edit_question(
    node: NodeDep,
    assistant: OwnedAssistant,
    question_id: Annotated[int, Path(ge=1, le=2**53)],
    edited: EditedQuestion,
) -> ReplacedQuestion:
    """Replace a labelled question; what learned from the old one forgets it."""
    try:
        new = questions.read(edited.model_dump())
        with node.database.write() as session:
            made = questions.edit(session, assistant.id, question_id, new)
            if made is None:
                raise _unknown(question_id)
            row, forgotten = made
            answer = _question(row).model_dump()
    except ValueError as error:
        raise ApiError(400, "invalid_question", str(error)) from error
    return ReplacedQuestion.model_validate({**answer, "personal": forgotten})


@router.delete("")
def remove_questions(
    node: NodeDep,
    assistant: OwnedAssistant,
    subject: Annotated[str | None, Query(max_length=10_000)] = None,
) -> ErasedExamples:
    """Remove those of one subject, or all."""
    with node.database.write() as session:
        return ErasedExamples.of(questions.remove_all(session, assistant.id, subject))


@router.delete("/{question_id}")
def remove_question(
    node: NodeDep,
    assistant: OwnedAssistant,
    question_id: Annotated[str, Path(max_length=100)],
) -> ErasedExamples:
    """Remove one; one that a heading makes is made no more."""
    with node.database.write() as session:
        if NUMBER.fullmatch(question_id):
            erased = questions.remove(session, assistant.id, int(question_id))
        else:
            erased = headings.hide(session, assistant.id, question_id)
        if not erased.removed:
            raise _unknown(question_id)
    return ErasedExamples.of(erased)


def _question(row: LabelledQuestion) -> QuestionBody:
    marked = [(item.passage or item.document_id, item.is_relevant) for item in row.relevant]
    return QuestionBody.of(
        row,
        origin=Origin.FEEDBACK if row.origin in _FROM_FEEDBACK else Origin.UPLOAD,
        question=row.text,
        relevant=[name for name, is_relevant in marked if is_relevant],
        not_relevant=[name for name, is_relevant in marked if not is_relevant],
    )


def _made(one: MadeQuestion) -> QuestionBody:
    return QuestionBody(
        id=one.id,
        origin=Origin.HEADING,
        question=one.text,
        relevant=list(one.relevant),
        not_relevant=[],
        answer=None,
        subject=None,
        created_at=None,
    )


def _unknown(question_id: int | str) -> ApiError:
    return ApiError(404, "question_not_found", f"there is no question {question_id}")


def _add_questions(node: Node, assistant_id: int, body: bytes) -> Stored:
    try:
        new = questions.parse(body.splitlines())
        with node.database.write() as session:
            forgotten = questions.add(session, assistant_id, new)
    except QuestionError as error:
        raise ApiError(400, "invalid_question", str(error)) from error
    return Stored.model_validate({"stored": len(new), "personal": forgotten})
