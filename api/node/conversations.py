"""Conversations that the owner has the node keep: listed and erased."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.bodies import Removed, RowBody
from api.errors import ApiError, responses
from api.node.auth import NodeDep, OwnedAssistant, own_key_id
from api.node.node import Node
from generation.answer import Answer
from generation.engine import Message
from generation.prompt import is_helper_task
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


@dataclass(frozen=True, slots=True)
class Keeper:
    """Keeps the answer to one request."""

    node: Node
    assistant_id: int
    key_id: str | None
    chat_id: str | None
    messages: Sequence[Message]

    @classmethod
    def of(
        cls,
        node: Node,
        assistant: Assistant,
        caller: Principal,
        chat_id: str | None,
        messages: Sequence[Message],
    ) -> Keeper | None:
        """None where nothing is to be kept: the owner does not want it, or a front-end asks for
        itself."""
        if assistant.conversation_days is None or is_helper_task(messages):
            return None
        return cls(node, assistant.id, own_key_id(caller), chat_id, messages)

    def keep(self, completion_id: str, final: Answer) -> None:
        turn = NewTurn(
            completion_id,
            self.key_id,
            self.chat_id,
            question=self.messages[-1].content,
            answer=final.text,
            passages=tuple((hit.chunk_id, hit.document_id) for hit in final.passages),
            earlier=tuple(turn.content for turn in self.messages if turn.role == "assistant"),
        )
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
) -> Removed:
    """Erase all of them, or one chat."""
    with node.database.write() as session:
        removed = conversations.remove(session, assistant.id, chat_id)
    return Removed(removed=removed)
