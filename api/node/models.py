"""GET /v1/models: one assistant is one model."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel

from api.errors import responses
from api.node.auth import Caller, NodeDep, visible, visible_assistants
from storage.node_tables import Assistant

router = APIRouter(prefix="/v1/models", tags=["OpenAI"], responses=responses(400, 401))


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["alcove"] = "alcove"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


@router.get("")
def list_models(node: NodeDep, caller: Caller) -> ModelList:
    """The assistants that the key may ask."""
    with node.database.read() as session:
        return ModelList(data=[_model(a) for a in visible_assistants(session, caller)])


@router.get("/{model}", responses=responses(404))
def get_model(node: NodeDep, caller: Caller, model: Annotated[str, Path(max_length=100)]) -> Model:
    """One of them."""
    with node.database.read() as session:
        return _model(visible(session, caller, model))


def _model(assistant: Assistant) -> Model:
    return Model(id=assistant.name, created=assistant.created_at)
