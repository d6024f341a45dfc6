"""Labelled questions of an assistant: read from JSON lines, stored, listed, removed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session, selectinload

from retrieval.examples import SUBJECT
from retrieval.forget import forget
from storage.database import note_deletion
from storage.node_tables import (
    Chunk,
    Document,
    LabelledQuestion,
    RelevantPassage,
)

LONGEST_TEXT = 10_000
MOST_RELEVANT = 100
FIELDS = frozenset({"question", "relevant", "answer", "subject"})


class QuestionError(ValueError):
    """A line is not a labelled question of this assistant; the message names the line."""


@dataclass(frozen=True, slots=True)
class NewQuestion:
    """A line: `relevant` holds ids of passages, or ids or external ids of documents."""

    question: str
    relevant: tuple[str, ...]
    answer: str | None
    subject: str | None


def parse(lines: Iterable[bytes]) -> list[NewQuestion]:
    """JSON lines {"question", "relevant": [...], "answer"?, "subject"?}; blank ones are let be.

    Raises:
        QuestionError: for anything else.
    """
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_question(json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise QuestionError(f"line {number}: {error}") from error
    return found


def add(session: Session, assistant_id: int, questions: Sequence[NewQuestion]) -> int:
    """Store questions, replacing those of the same text and subject; returns how many there were.

    Another subject's question of the same text stays: its row must not follow from this one's.

    Raises:
        QuestionError: something relevant is unknown, or belongs to more than one subject.
    """
    for number, new in enumerate(questions, 1):
        relevant = [_find(session, assistant_id, name, number) for name in new.relevant]
        subject = _check_subject(session, new, relevant, number)
        same = _of_subject(session, assistant_id, new.question, subject)
        _delete(session, assistant_id, LabelledQuestion.id.in_(same))
        session.add(
            LabelledQuestion(
                assistant_id=assistant_id,
                text=new.question,
                answer=new.answer,
                subject=new.subject,
                relevant=relevant,
            )
        )
    return len(questions)


def list_all(session: Session, assistant_id: int) -> list[LabelledQuestion]:
    """The questions of an assistant in the order in which they came."""
    own = select(LabelledQuestion).where(LabelledQuestion.assistant_id == assistant_id)
    loaded = own.options(selectinload(LabelledQuestion.relevant)).order_by(LabelledQuestion.id)
    return list(session.scalars(loaded))


def remove(session: Session, assistant_id: int, question_id: int) -> bool:
    """Remove one; whether it was there."""
    return _delete(session, assistant_id, LabelledQuestion.id == question_id) > 0


def remove_all(session: Session, assistant_id: int, subject: str | None) -> int:
    """Remove all of a subject, or all; returns how many there were."""
    if subject is None:
        return _delete(session, assistant_id)
    return _delete(session, assistant_id, LabelledQuestion.subject == subject)


def _delete(session: Session, assistant_id: int, *which: Any) -> int:
    own = select(LabelledQuestion.id).where(LabelledQuestion.assistant_id == assistant_id, *which)
    ids = session.scalars(own).all()
    if ids:
        forget(session, questions=ids)
        session.execute(delete(LabelledQuestion).where(LabelledQuestion.id.in_(ids)))
        note_deletion(session)
    return len(ids)


def _question(value: Any) -> NewQuestion:
    if not isinstance(value, dict) or not value.keys() <= FIELDS:
        raise ValueError(f"not an object with the fields {', '.join(sorted(FIELDS))}")
    relevant = value.get("relevant")
    if (
        not isinstance(relevant, list)
        or not 0 < len(relevant) <= MOST_RELEVANT
        or not all(isinstance(name, str) for name in relevant)
    ):
        raise ValueError(f"relevant is a list of 1 to {MOST_RELEVANT} ids")
    question = _text(value, "question")
    if question is None:
        raise ValueError("question is missing")
    return NewQuestion(
        question, tuple(dict.fromkeys(relevant)), _text(value, "answer"), _text(value, "subject")
    )


def _text(value: dict[str, Any], name: str) -> str | None:
    text = value.get(name)
    if text is None:
        return None
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST_TEXT:
        raise ValueError(f"{name} is a text of 1 to {LONGEST_TEXT} characters")
    return text


def _find(session: Session, assistant_id: int, name: str, number: int) -> RelevantPassage:
    passage = session.scalars(
        select(Chunk).where(Chunk.assistant_id == assistant_id, Chunk.public_id == name)
    ).one_or_none()
    if passage is not None:
        return RelevantPassage(document_id=passage.document_id, passage=name)
    document = session.scalar(
        select(Document.id).where(
            Document.assistant_id == assistant_id,
            or_(Document.id == name, Document.external_id == name),
        )
    )
    if document is None:
        raise QuestionError(
            f"question {number}: {name!r} is neither a passage's id nor a document's id or "
            "external id in this assistant"
        )
    return RelevantPassage(document_id=document, passage=None)


def _check_subject(
    session: Session, new: NewQuestion, relevant: Sequence[RelevantPassage], number: int
) -> str:
    """The subject that all of it belongs to. Raises QuestionError."""
    ids = {item.document_id for item in relevant}
    rows = session.execute(
        select(Document.id, Document.attributes).where(Document.id.in_(ids))
    ).all()
    named = {_subject(row.id, row.attributes) for row in rows}
    if len(named) > 1:
        raise QuestionError(
            f"question {number}: its passages belong to {len(named)} subjects; a question belongs "
            f"to one: split it, or give its documents one attribute {SUBJECT!r}"
        )
    if new.subject is not None and named != {new.subject}:
        raise QuestionError(
            f"question {number}: its documents do not have the attribute {SUBJECT!r} = "
            f"{new.subject!r}"
        )
    return named.pop()


def _of_subject(session: Session, assistant_id: int, text: str, subject: str) -> set[int]:
    """Ids of the questions of this text that belong to a subject."""
    rows = session.execute(
        select(LabelledQuestion.id, Document.id, Document.attributes)
        .join(RelevantPassage, RelevantPassage.question_id == LabelledQuestion.id)
        .join(Document, Document.id == RelevantPassage.document_id)
        .where(LabelledQuestion.assistant_id == assistant_id, LabelledQuestion.text == text)
    )
    return {number for number, name, given in rows if _subject(name, given) == subject}


def _subject(document_id: str, attributes: dict[str, Any]) -> str:
    return attributes.get(SUBJECT) or document_id
