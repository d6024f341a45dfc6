"""Assistants: each has documents, an index and keys of its own."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node.auth import (
    Caller,
    ModelsDep,
    NodeDep,
    NodeOwner,
    OwnedAssistant,
    Owner,
    unknown_assistant,
    visible,
    visible_assistants,
)
from api.node.instructions import Instructions
from api.node.node import Models
from retrieval.fusion_weight import Question
from retrieval.library import AssistantExistsError, BadNameError, LibraryError
from storage.node_tables import Assistant

router = APIRouter(prefix="/v1/assistants", tags=["Assistants"], responses=responses(400, 401, 503))

MOST_DAYS = 3_650

Name = Annotated[str, Path(max_length=100)]


class NewAssistant(BaseModel):
    name: str = Field(max_length=100)
    description: str = Field(default="", max_length=1_000)


class AssistantChange(BaseModel):
    """What is left out stays as it is. `conversation_days` null: keep none, and erase those that
    were kept."""

    instructions: Instructions = ""
    conversation_days: int | None = Field(default=None, ge=1, le=MOST_DAYS)


class AssistantBody(RowBody):
    """`instructions` stand in every prompt; conversations are kept for `conversation_days`.
    `lexical_weight` is the learned share of the lexical score (null: the default), learned
    from `weight_source`."""

    name: str
    description: str
    created_at: int
    documents: int
    passages: int
    embedder: str
    lexical_weight: float | None
    weight_source: str | None
    instructions: str
    conversation_days: int | None


class AssistantList(BaseModel):
    data: list[AssistantBody]


class LabelledQuestion(BaseModel):
    question: str = Field(min_length=1, max_length=10_000)
    document_ids: list[str] = Field(min_length=1, max_length=1_000)


class Questions(BaseModel):
    questions: list[LabelledQuestion] = Field(min_length=1, max_length=500)


@router.get("")
def list_assistants(node: NodeDep, models: ModelsDep, caller: Caller) -> AssistantList:
    """The assistants that the key may see."""
    with node.database.read() as session:
        found = visible_assistants(session, caller)
    return AssistantList(data=[_body(models, assistant) for assistant in found])


@router.post("", status_code=201, responses=responses(403, 409))
def create_assistant(models: ModelsDep, _owner: NodeOwner, new: NewAssistant) -> AssistantBody:
    """Make an assistant without documents."""
    try:
        assistant = models.library.create_assistant(new.name, new.description)
    except BadNameError as error:
        raise ApiError(400, "invalid_name", str(error), param="name") from error
    except AssistantExistsError as error:
        raise ApiError(409, "assistant_exists", str(error), param="name") from error
    return _body(models, assistant)


@router.get("/{assistant}", responses=responses(404))
def get_assistant(
    node: NodeDep, models: ModelsDep, caller: Caller, assistant: Name
) -> AssistantBody:
    """One of them."""
    with node.database.read() as session:
        found = visible(session, caller, assistant)
    return _body(models, found)


@router.patch("/{assistant}", responses=responses(403, 404))
def change_assistant(
    node: NodeDep,
    models: ModelsDep,
    owner: Owner,
    assistant: OwnedAssistant,
    change: AssistantChange,
) -> AssistantBody:
    """Change an assistant's standing instructions, and for how long conversations are kept."""
    changed = change.model_dump(exclude_unset=True)
    with node.database.write() as session:
        row = visible(session, owner, assistant.name)
        for name, value in changed.items():
            setattr(row, name, value)
    if "conversation_days" in changed:
        models.library.purge_conversations()
    return _body(models, row)


@router.delete("/{assistant}", status_code=204, responses=responses(403, 404))
def delete_assistant(models: ModelsDep, _owner: NodeOwner, assistant: OwnedAssistant) -> Response:
    """Erase an assistant with all its documents; keys that are bound to it see nothing more."""
    try:
        models.library.delete_assistant(assistant.id)
    except LibraryError as error:
        raise ApiError(503, "not_erased_yet", str(error), retry_after=5) from error
    return Response(status_code=204)


@router.put("/{assistant}/weight", responses=responses(403, 404))
def learn_weight(
    node: NodeDep, models: ModelsDep, owner: Owner, assistant: OwnedAssistant, labelled: Questions
) -> AssistantBody:
    """Learn the mixture of dense and lexical scores from questions and their documents."""
    questions = [Question(one.question, frozenset(one.document_ids)) for one in labelled.questions]
    try:
        models.library.learn_weight(assistant.id, questions)
    except KeyError as error:  # it is being deleted
        raise unknown_assistant(assistant.name) from error
    with node.database.read() as session:
        return _body(models, visible(session, owner, assistant.name))


def _body(models: Models, assistant: Assistant) -> AssistantBody:
    documents, passages = models.library.count(assistant.id)
    return AssistantBody.of(assistant, documents=documents, passages=passages)
