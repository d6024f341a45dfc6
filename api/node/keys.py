"""Keys: made, listed and revoked by the owner of the node."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import selectinload

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node.auth import NodeDep, NodeOwner, visible
from api.node.instructions import Instructions
from storage import keys
from storage.node_tables import Key, Scope

router = APIRouter(prefix="/v1/keys", tags=["Keys"], responses=responses(400, 401, 403))


class NewKeyRequest(BaseModel):
    """`assistants` null: every one, those to come too."""

    label: str = Field(default="", max_length=200)
    scope: Scope = Scope.USER
    assistants: list[str] | None = Field(max_length=1_000)
    instructions: Instructions = ""
    feedback_is_approved: bool = False


class KeyChange(BaseModel):
    """What is left out stays as it is. `feedback_is_approved`: what this key gives becomes an
    example without the owner having looked at it."""

    instructions: Instructions = ""
    feedback_is_approved: bool = False


class KeyBody(RowBody):
    id: str
    label: str
    scope: Scope
    assistants: list[str] | None
    created_at: int
    revoked_at: int | None
    instructions: str
    feedback_is_approved: bool


class CreatedKey(KeyBody):
    """`key` is shown this once."""

    key: str


class KeyList(BaseModel):
    data: list[KeyBody]


@router.post("", status_code=201, responses=responses(404))
def create_key(node: NodeDep, owner: NodeOwner, new: NewKeyRequest) -> CreatedKey:
    """Make a key; an owner's manages the documents of its assistants, a user's asks them."""
    with node.database.write() as session:
        own = None
        if new.assistants is not None:
            own = [visible(session, owner, name) for name in dict.fromkeys(new.assistants)]
        made = keys.create(session, new.label, new.scope, own)
        made.key.instructions = new.instructions
        made.key.feedback_is_approved = new.feedback_is_approved
        return CreatedKey.of(made.key, assistants=_assistants(made.key), key=made.token)


@router.get("")
def list_keys(node: NodeDep, _owner: NodeOwner) -> KeyList:
    """All keys without their secrets, revoked ones too."""
    with node.database.read() as session:
        found = keys.list_all(session)
        return KeyList(data=[KeyBody.of(key, assistants=_assistants(key)) for key in found])


@router.patch("/{key_id}", responses=responses(404))
def change_key(
    node: NodeDep,
    _owner: NodeOwner,
    key_id: Annotated[str, Path(max_length=100)],
    change: KeyChange,
) -> KeyBody:
    """Change a key's standing instructions, or whether its feedback is trusted."""
    with node.database.write() as session:
        key = session.get(Key, key_id, options=[selectinload(Key.assistants)])
        if key is None:
            raise ApiError(404, "key_not_found", f"there is no key {key_id!r}")
        for name, value in change.model_dump(exclude_unset=True).items():
            setattr(key, name, value)
        return KeyBody.of(key, assistants=_assistants(key))


@router.delete("/{key_id}", status_code=204, responses=responses(404))
def revoke_key(
    node: NodeDep, _owner: NodeOwner, key_id: Annotated[str, Path(max_length=100)]
) -> Response:
    """End a key at once."""
    with node.database.write() as session:
        if not keys.revoke(session, key_id):
            raise ApiError(404, "key_not_found", f"there is no valid key {key_id!r}")
    return Response(status_code=204)


def _assistants(key: Key) -> list[str] | None:
    return None if key.every_assistant else [assistant.name for assistant in key.assistants]
