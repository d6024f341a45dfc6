"""Labelled questions of an assistant: material for shared training, which stays on the node."""

from __future__ import annotations

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node.auth import NodeDep, OwnedAssistant
from api.node.node import Node
from retrieval import questions
from retrieval.questions import QuestionError
from storage.node_tables import LabelledQuestion

router = APIRouter(
    prefix="/v1/assistants/{assistant}/questions",
    tags=["Federation"],
    responses=responses(400, 401, 403, 404),
)

JSON_LINES: dict[str, Any] = {
    "requestBody": {
        "description": "A question in each line, as JSON.",
        "required": True,
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


class QuestionBody(RowBody):
    """`relevant` holds ids of passages, and of documents that are relevant as a whole."""

    id: int
    question: str
    relevant: list[str]
    answer: str | None
    subject: str | None
    created_at: int


class QuestionList(BaseModel):
    data: list[QuestionBody]


class Stored(BaseModel):
    stored: int


class Removed(BaseModel):
    removed: int


@router.post("", status_code=201, openapi_extra=JSON_LINES)
async def add_questions(node: NodeDep, assistant: OwnedAssistant, request: Request) -> Stored:
    """Labelled questions as JSON lines: {"question", "relevant": [...], "answer", "subject"}.

    `relevant` names passages, or documents by id or external id. They stay on the node; shared
    training sees no more of them than its plan allows.
    """
    body = await request.body()
    return await to_thread.run_sync(_add_questions, node, assistant.id, body)


@router.get("")
def list_questions(node: NodeDep, assistant: OwnedAssistant) -> QuestionList:
    """The labelled questions of an assistant."""
    with node.database.read() as session:
        return QuestionList(
            data=[_question(one) for one in questions.list_all(session, assistant.id)]
        )


@router.delete("")
def remove_questions(
    node: NodeDep,
    assistant: OwnedAssistant,
    subject: Annotated[str | None, Query(max_length=10_000)] = None,
) -> Removed:
    """Remove those of one subject, or all."""
    with node.database.write() as session:
        removed = questions.remove_all(session, assistant.id, subject)
    _blank(node)
    return Removed(removed=removed)


@router.delete("/{question_id}", status_code=204)
def remove_question(
    node: NodeDep,
    assistant: OwnedAssistant,
    question_id: Annotated[int, Path(ge=1, le=2**53)],
) -> Response:
    """Remove one."""
    with node.database.write() as session:
        if not questions.remove(session, assistant.id, question_id):
            raise ApiError(404, "question_not_found", f"there is no question {question_id}")
    _blank(node)
    return Response(status_code=204)


def _question(row: LabelledQuestion) -> QuestionBody:
    relevant = [item.passage or item.document_id for item in row.relevant]
    return QuestionBody.of(row, question=row.text, relevant=relevant)


def _add_questions(node: Node, assistant_id: int, body: bytes) -> Stored:
    try:
        new = questions.parse(body.splitlines())
        with node.database.write() as session:
            return Stored(stored=questions.add(session, assistant_id, new))
    except QuestionError as error:
        raise ApiError(400, "invalid_question", str(error)) from error


def _blank(node: Node) -> None:
    """Without loaded models the next start does it."""
    if node.models is not None:
        node.models.library.blank_deletions()
