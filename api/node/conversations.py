"""Conversations that the owner has the node keep: listed and erased."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node.auth import NodeDep, OwnedAssistant, own_key
from api.node.node import Node
from retrieval import conversations
from retrieval.conversations import NewTurn
from storage.keys import Principal
from storage.node_tables import Assistant

router = APIRouter(
    prefix="/v1/assistants/{assistant}/conversations",
    tags=["Feedback"],
    responses=responses(400, 401, 403, 404),
)

ChatId = Annotated[str | None, Query(max_length=300)]


class TurnBody(RowBody):
    """A question and its answer; `[n]` in the answer is `passages[n - 1]`. `chat_id` is the
    front-end's; `id` is that of the completion."""

    id: str
    key_id: str | None
    chat_id: str | None
    created_at: int
    question: str
    answer: str
    passages: list[str]


class TurnList(BaseModel):
    """Newest first. `next_after` is the `after` of the next page; null on the last."""

    data: list[TurnBody]
    next_after: str | None


class RemovedTurns(BaseModel):
    removed: int


@dataclass(frozen=True, slots=True)
class Keeper:
    """Keeps the answers to one request."""

    node: Node
    assistant_id: int
    key_id: str | None

    @classmethod
    def of(
        cls, node: Node, session: Session, assistant: Assistant, caller: Principal
    ) -> Keeper | None:
        """None where the owner wants no conversations kept."""
        if assistant.conversation_days is None:
            return None
        key = own_key(session, caller)
        return cls(node, assistant.id, None if key is None else key.id)

    def keep(self, turn: NewTurn) -> None:
        with self.node.database.write() as session:
            conversations.keep(session, self.assistant_id, turn)


@router.get("")
def list_conversations(
    node: NodeDep,
    assistant: OwnedAssistant,
    chat_id: ChatId = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(max_length=100)] = None,
) -> TurnList:
    """What was asked and answered, as far as it is kept: of all chats, or of one."""
    try:
        with node.database.read() as session:
            found = conversations.list_page(
                session, assistant.id, limit=limit + 1, after=after, chat_id=chat_id
            )
    except KeyError as error:
        raise ApiError(
            400, "unknown_turn", f"there is no turn {after!r} to go on after", param="after"
        ) from error
    shown = [
        TurnBody.of(turn, passages=[item.passage for item in turn.passages])
        for turn in found[:limit]
    ]
    return TurnList(data=shown, next_after=shown[-1].id if len(found) > limit else None)


@router.delete("")
def erase_conversations(
    node: NodeDep, assistant: OwnedAssistant, chat_id: ChatId = None
) -> RemovedTurns:
    """Erase all of them, or one chat."""
    with node.database.write() as session:
        removed = conversations.remove(session, assistant.id, chat_id)
    return RemovedTurns(removed=removed)
