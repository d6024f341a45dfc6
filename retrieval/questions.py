"""Labelled questions of an assistant: read from JSON lines, stored, listed, edited, erased."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session, selectinload

from retrieval.examples import SUBJECT
from retrieval.forget import Erased, Forgotten, forget
from storage.database import among, note_deletion
from storage.example_tables import Feedback, LabelledQuestion, QuestionOrigin, RelevantPassage
from storage.node_tables import Chunk, Document

LONGEST_TEXT = 10_000
MOST_RELEVANT = 100
FIELDS = frozenset({"question", "relevant", "not_relevant", "answer", "subject"})


class QuestionError(ValueError):
    """A line is not a labelled question of this assistant; the message names the line."""


@dataclass(frozen=True, slots=True)
class NewQuestion:
    """A line: `relevant` and `not_relevant` hold ids of passages, or ids or external ids of
    documents."""

    question: str
    relevant: tuple[str, ...]
    answer: str | None
    subject: str | None
    not_relevant: tuple[str, ...] = ()


def parse(lines: Iterable[bytes]) -> list[NewQuestion]:
    """JSON lines {"question", "relevant": [...], "not_relevant"?: [...], "answer"?, "subject"?};
    blank ones are let be.

    Raises:
        QuestionError: for anything else.
    """
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(read(json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise QuestionError(f"line {number}: {error}") from error
    return found


def read(value: Any) -> NewQuestion:
    """A line's JSON value. Raises ValueError with what is wrong."""
    if not isinstance(value, dict) or not value.keys() <= FIELDS:
        raise ValueError(f"not an object with the fields {', '.join(sorted(FIELDS))}")
    question = _text(value, "question")
    if question is None:
        raise ValueError("question is missing")
    relevant = _names(value.get("relevant"), "relevant", fewest=1)
    not_relevant = _names(value.get("not_relevant", []), "not_relevant", fewest=0)
    if both := set(relevant) & set(not_relevant):
        raise ValueError(f"{min(both)!r} is both relevant and not")
    return NewQuestion(
        question, relevant, _text(value, "answer"), _text(value, "subject"), not_relevant
    )


def add(session: Session, assistant_id: int, questions: Sequence[NewQuestion]) -> Forgotten:
    """Store questions, replacing uploaded ones of the same text and subject; see `forget`.

    One that is there already stays as it is, with all that learned from it. So does another
    subject's question of the same text: its row must not follow from this one's.

    Raises:
        QuestionError: something relevant is unknown, or belongs to more than one subject.
    """
    forgotten = []
    for number, new in enumerate(questions, 1):
        where = f"question {number}: "
        relevant = _passages(session, assistant_id, new, where)
        subject = _check_subject(session, new, relevant, where)
        made = LabelledQuestion(
            assistant_id=assistant_id,
            text=new.question,
            answer=new.answer,
            subject=new.subject,
            relevant=relevant,
        )
        before = _of_subject(session, assistant_id, new.question, subject)
        same = next((row for row in before if _said(row) == _said(made)), None)
        forgotten += erase(session, [row.id for row in before if row is not same])
        if same is None:
            session.add(made)
    return forgotten


def edit(
    session: Session, assistant_id: int, question_id: int, new: NewQuestion
) -> tuple[LabelledQuestion, Forgotten] | None:
    """Put `new` in the place of a question, which keeps its id and origin, though it corrects
    nothing any more; None if it is not there. See `forget`.

    Raises:
        QuestionError: as `add`; what came from feedback may name passages of several subjects.
    """
    own = select(LabelledQuestion.origin, LabelledQuestion.created_at).where(
        LabelledQuestion.assistant_id == assistant_id, LabelledQuestion.id == question_id
    )
    old = session.execute(own).one_or_none()
    if old is None:
        return None
    relevant = _passages(session, assistant_id, new, "")
    is_uploaded = old.origin is QuestionOrigin.UPLOAD
    if is_uploaded or new.subject is not None:
        _check_subject(session, new, relevant, "")
    given = session.scalar(select(Feedback.id).where(Feedback.question_id == question_id))
    # What learned from the old text must go as if it had been erased.
    forgotten = erase(session, [question_id])
    row = LabelledQuestion(
        id=question_id,
        assistant_id=assistant_id,
        text=new.question,
        answer=new.answer,
        subject=new.subject,
        origin=QuestionOrigin.UPLOAD if is_uploaded else QuestionOrigin.FEEDBACK,
        created_at=old.created_at,
        relevant=relevant,
    )
    session.add(row)
    session.flush()
    session.execute(update(Feedback).where(Feedback.id == given).values(question_id=question_id))
    return row, forgotten


def list_page(
    session: Session,
    assistant_id: int,
    *,
    limit: int | None = None,
    after: int = 0,
    origins: Collection[QuestionOrigin] = tuple(QuestionOrigin),
) -> list[LabelledQuestion]:
    """At most `limit` questions with ids above `after`, in the order in which they came."""
    own = select(LabelledQuestion).where(
        LabelledQuestion.assistant_id == assistant_id, LabelledQuestion.id > after
    )
    own = own.where(LabelledQuestion.origin.in_(origins))
    loaded = own.options(selectinload(LabelledQuestion.relevant)).order_by(LabelledQuestion.id)
    return list(session.scalars(loaded.limit(limit)))


def remove(session: Session, assistant_id: int, question_id: int) -> Erased:
    """Remove one, if it is there."""
    return _remove(session, assistant_id, LabelledQuestion.id == question_id)


def remove_all(session: Session, assistant_id: int, subject: str | None) -> Erased:
    """Remove all of a subject, or all."""
    if subject is None:
        return _remove(session, assistant_id)
    return _remove(session, assistant_id, LabelledQuestion.subject == subject)


def erase_about(session: Session, document_id: str) -> Forgotten:
    """Erase the questions that were made from a document, and may quote it; see `forget`.

    One that was uploaded with the document as no answer stays, without that mark: it belongs to the
    subject of what answers it, whose row must not follow from this one's.
    """
    about = (
        select(LabelledQuestion.id)
        .join(RelevantPassage)
        .where(
            RelevantPassage.document_id == document_id,
            or_(
                RelevantPassage.is_relevant,
                LabelledQuestion.origin != QuestionOrigin.UPLOAD,
            ),
        )
    )
    return erase(session, session.scalars(about).all())


def erase(session: Session, ids: Collection[int]) -> Forgotten:
    """Erase questions by id: every labelled question that goes, goes through here; see `forget`."""
    if not ids:
        return []
    forgotten = forget(session, questions=ids)
    session.execute(delete(LabelledQuestion).where(among(LabelledQuestion.id, ids)))
    note_deletion(session)
    return forgotten


def _remove(session: Session, assistant_id: int, *which: Any) -> Erased:
    own = select(LabelledQuestion.id).where(LabelledQuestion.assistant_id == assistant_id, *which)
    ids = session.scalars(own).all()
    return Erased(len(ids), erase(session, ids))


def _names(value: Any, name: str, *, fewest: int) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or not fewest <= len(value) <= MOST_RELEVANT
        or not all(isinstance(one, str) for one in value)
    ):
        raise ValueError(f"{name} is a list of {fewest} to {MOST_RELEVANT} ids")
    return tuple(dict.fromkeys(value))


def _text(value: dict[str, Any], name: str) -> str | None:
    text = value.get(name)
    if text is None:
        return None
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST_TEXT:
        raise ValueError(f"{name} is a text of 1 to {LONGEST_TEXT} characters")
    text.encode()  # half a surrogate pair cannot be stored
    return text


def _passages(
    session: Session, assistant_id: int, new: NewQuestion, where: str
) -> list[RelevantPassage]:
    return [
        _find(session, assistant_id, name, is_relevant, where)
        for names, is_relevant in ((new.relevant, True), (new.not_relevant, False))
        for name in names
    ]


def _find(
    session: Session, assistant_id: int, name: str, is_relevant: bool, where: str
) -> RelevantPassage:
    passage = session.scalars(
        select(Chunk).where(Chunk.assistant_id == assistant_id, Chunk.public_id == name)
    ).one_or_none()
    if passage is not None:
        return RelevantPassage(
            document_id=passage.document_id, passage=name, is_relevant=is_relevant
        )
    document = session.scalar(
        select(Document.id).where(
            Document.assistant_id == assistant_id,
            or_(Document.id == name, Document.external_id == name),
        )
    )
    if document is None:
        raise QuestionError(
            f"{where}{name!r} is neither a passage's id nor a document's id or "
            "external id in this assistant"
        )
    return RelevantPassage(document_id=document, passage=None, is_relevant=is_relevant)


def _check_subject(
    session: Session, new: NewQuestion, passages: Sequence[RelevantPassage], where: str
) -> str:
    """The subject that all that answers it belongs to. Raises QuestionError."""
    ids = {item.document_id for item in passages if item.is_relevant}
    rows = session.execute(
        select(Document.id, Document.attributes).where(Document.id.in_(ids))
    ).all()
    named = {_subject(row.id, row.attributes) for row in rows}
    if len(named) > 1:
        raise QuestionError(
            f"{where}its passages belong to {len(named)} subjects; a question belongs "
            f"to one: split it, or give its documents one attribute {SUBJECT!r}"
        )
    if new.subject is not None and named != {new.subject}:
        raise QuestionError(
            f"{where}its documents do not have the attribute {SUBJECT!r} = {new.subject!r}"
        )
    return named.pop()


def _said(row: LabelledQuestion) -> tuple[object, ...]:
    """All that an uploaded line says beside its question."""
    marks = {(item.document_id, item.passage, item.is_relevant) for item in row.relevant}
    return row.answer, row.subject, marks


def _of_subject(
    session: Session, assistant_id: int, text: str, subject: str
) -> Sequence[LabelledQuestion]:
    """The uploaded questions of this text that belong to a subject."""
    rows = session.execute(
        select(LabelledQuestion.id, Document.id, Document.attributes)
        .join(RelevantPassage, RelevantPassage.question_id == LabelledQuestion.id)
        .join(Document, Document.id == RelevantPassage.document_id)
        .where(
            LabelledQuestion.assistant_id == assistant_id,
            LabelledQuestion.text == text,
            LabelledQuestion.origin == QuestionOrigin.UPLOAD,
            RelevantPassage.is_relevant,
        )
    )
    ids = {number for number, name, given in rows if _subject(name, given) == subject}
    own = select(LabelledQuestion).where(among(LabelledQuestion.id, ids))
    return session.scalars(own.options(selectinload(LabelledQuestion.relevant))).all()


def _subject(document_id: str, attributes: dict[str, Any]) -> str:
    return attributes.get(SUBJECT) or document_id
