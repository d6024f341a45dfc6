"""Conversations, kept only where the owner asked for it, and for no longer than was asked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, delete, or_, select
from sqlalchemy.orm import Session, aliased, selectinload

from storage.database import among, note_deletion
from storage.declarative import now
from storage.example_tables import ConversationTurn, TurnPassage
from storage.node_tables import Assistant, Document

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A question and its finished answer.

    Attributes:
        completion_id: of the answer.
        key_id: of who asked; None for the owner at the node itself.
        chat_id: what the front-end calls the conversation, if it says so.
        question: the last message.
        answer: as it was sent, with its marks.
        passages: (chunk id, document id) of what the generator read; [n] is the nth.
        earlier: the answers that the conversation sent along, which this one may repeat.
    """

    completion_id: str
    key_id: str | None
    chat_id: str | None
    question: str
    answer: str
    passages: tuple[tuple[str, str], ...]
    earlier: tuple[str, ...] = ()


def keep(session: Session, assistant_id: int, turn: NewTurn) -> bool:
    """Store a turn if the owner wants that; whether it was stored.

    An answer from a document that was erased meanwhile is not: it may quote it. Nor is one that may
    repeat an earlier answer which is not kept itself, since nothing tells what that one quoted.
    """
    assistant = session.get(Assistant, assistant_id)
    if assistant is None or assistant.conversation_days is None:
        return False
    read = {document_id for _, document_id in turn.passages}
    own = select(Document.id).where(Document.assistant_id == assistant_id, Document.id.in_(read))
    if set(session.scalars(own)) != read or not _keeps_earlier(session, assistant_id, turn):
        return False
    session.add(
        ConversationTurn(
            id=turn.completion_id,
            assistant_id=assistant_id,
            key_id=turn.key_id,
            chat_id=turn.chat_id,
            question=turn.question,
            answer=turn.answer,
            passages=[
                TurnPassage(position=position, passage=chunk_id, document_id=document_id)
                for position, (chunk_id, document_id) in enumerate(turn.passages)
            ],
        )
    )
    return True


def is_first(session: Session, turn: ConversationTurn) -> bool:
    """Whether no other turn that is kept may have come before it in its chat."""
    if turn.chat_id is None:
        return True
    before = select(ConversationTurn.id).where(
        ConversationTurn.assistant_id == turn.assistant_id,
        ConversationTurn.key_id == turn.key_id,
        ConversationTurn.chat_id == turn.chat_id,
        ConversationTurn.created_at <= turn.created_at,
        ConversationTurn.id != turn.id,
    )
    return session.scalar(before.limit(1)) is None


def kept(assistant_id: int) -> Select[ConversationTurn]:
    """The turns of an assistant whose time has not run out, though others may not be erased yet."""
    own = ConversationTurn.assistant_id == assistant_id
    return select(ConversationTurn).join(Assistant, _of_assistant).where(own, ~_is_expired())


def list_page(
    session: Session,
    assistant_id: int,
    *,
    limit: int,
    after: str | None = None,
    chat_id: str | None = None,
) -> Sequence[ConversationTurn]:
    """At most `limit` turns, newest first, after the turn of that id.

    Raises:
        KeyError: there is no turn `after`.
    """
    query = kept(assistant_id)
    if chat_id is not None:
        query = query.where(ConversationTurn.chat_id == chat_id)
    if after is not None:
        start = session.get(ConversationTurn, after)
        if start is None or start.assistant_id != assistant_id:
            raise KeyError(after)
        query = query.where(
            or_(
                ConversationTurn.created_at < start.created_at,
                (ConversationTurn.created_at == start.created_at)
                & (ConversationTurn.id < start.id),
            )
        )
    query = query.order_by(ConversationTurn.created_at.desc(), ConversationTurn.id.desc())
    return session.scalars(
        query.options(selectinload(ConversationTurn.passages)).limit(limit)
    ).all()


def remove(session: Session, assistant_id: int, chat_id: str | None = None) -> int:
    """Erase all turns of an assistant, or of one chat; returns how many there were."""
    own = select(ConversationTurn.id).where(ConversationTurn.assistant_id == assistant_id)
    if chat_id is not None:
        own = own.where(ConversationTurn.chat_id == chat_id)
    return _erase(session, session.scalars(own).all())


def erase_about(session: Session, document_id: str) -> None:
    """Erase the turns whose answers were written with a document at hand, and all others of their
    chats: an answer may repeat what an earlier one quoted."""
    about = select(TurnPassage.turn_id).where(TurnPassage.document_id == document_id)
    named = aliased(ConversationTurn)
    same_chat = (
        select(named.id)
        .where(named.id.in_(about))
        .where(named.assistant_id == ConversationTurn.assistant_id)
        .where(named.key_id.is_not_distinct_from(ConversationTurn.key_id))
        .where(named.chat_id == ConversationTurn.chat_id)
    )
    own = select(ConversationTurn.id).where(or_(ConversationTurn.id.in_(about), same_chat.exists()))
    _erase(session, session.scalars(own).all())


def expired(session: Session) -> Sequence[str]:
    """Ids of the turns that are older than their assistant's owner wants, or no longer wanted."""
    own = select(ConversationTurn.id).join(Assistant, _of_assistant).where(_is_expired())
    return session.scalars(own).all()


def purge(session: Session) -> int:
    """Erase what has expired; returns how many turns that were."""
    return _erase(session, expired(session))


def _keeps_earlier(session: Session, assistant_id: int, turn: NewTurn) -> bool:
    earlier = {text.strip() for text in turn.earlier} - {""}
    if not earlier:
        return True
    if turn.chat_id is None:
        return False
    own = (
        kept(assistant_id)
        .where(ConversationTurn.key_id == turn.key_id, ConversationTurn.chat_id == turn.chat_id)
        .with_only_columns(ConversationTurn.answer)
    )
    return earlier <= {text.strip() for text in session.scalars(own)}


def _erase(session: Session, ids: Collection[str]) -> int:
    if ids:
        session.execute(delete(ConversationTurn).where(among(ConversationTurn.id, ids)))
        note_deletion(session)
    return len(ids)


_of_assistant = Assistant.id == ConversationTurn.assistant_id


def _is_expired() -> ColumnElement[bool]:
    oldest = now() - Assistant.conversation_days * DAY_SECONDS
    return or_(Assistant.conversation_days.is_(None), ConversationTurn.created_at <= oldest)
