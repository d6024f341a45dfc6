"""Standing instructions: what stands in every prompt of an assistant, and of a key.

They are the owner's, or those of whoever holds the key. They reach the model in the system message,
in front of the client's own; passages of documents are quoted in the user's and can never be one.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.errors import ApiError, responses
from api.node.auth import Caller, NodeDep, own_key
from generation.engine import Message
from storage.keys import Principal
from storage.node_tables import Assistant, Key

router = APIRouter(prefix="/v1/instructions", tags=["Keys"], responses=responses(400, 401))

LONGEST_INSTRUCTIONS = 2_000
Instructions = Annotated[str, Field(max_length=LONGEST_INSTRUCTIONS)]


class InstructionsBody(BaseModel):
    """Language, tone, length, role; empty: none."""

    instructions: Instructions


@router.get("")
def get_instructions(node: NodeDep, caller: Caller) -> InstructionsBody:
    """What stands in every prompt of this key, after the assistant's own instructions."""
    with node.database.read() as session:
        return InstructionsBody(instructions=_stored(session, caller).instructions)


@router.put("")
def put_instructions(node: NodeDep, caller: Caller, body: InstructionsBody) -> InstructionsBody:
    """Change it; whoever holds the key may."""
    with node.database.write() as session:
        _stored(session, caller).instructions = body.instructions
    return body


def standing(session: Session, assistant: Assistant, caller: Principal) -> list[Message]:
    """The system messages to put in front of a conversation."""
    key = own_key(session, caller)
    texts = [assistant.instructions, "" if key is None else key.instructions]
    return [Message("system", text) for text in texts if text.strip()]


def _stored(session: Session, caller: Principal) -> Key:
    key = own_key(session, caller)
    if key is None:
        raise ApiError(
            400, "no_stored_key", "the key of the command line has no instructions: use another"
        )
    return key
