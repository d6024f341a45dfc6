"""What people thought of answers: taken, looked through by the owner, turned into examples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, selectinload

from retrieval import conversations, questions
from retrieval.forget import Erased, Forgotten
from retrieval.marks import cited, without_marks
from storage.database import among, note_deletion
from storage.example_tables import (
    FIRST,
    SOURCES,
    ConversationTurn,
    Feedback,
    FeedbackState,
    LabelledQuestion,
    QuestionOrigin,
    RatedPassage,
    RelevantPassage,
)
from storage.node_tables import Chunk, Key

MOST_PENDING = 1_000
"""What one key may have waiting for the owner."""


class FeedbackError(ValueError):
    """Feedback that cannot be taken; `field` names what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class TooMuchPendingError(Exception):
    """The owner has not looked at this key's earlier feedback yet."""


class NothingToLearnError(ValueError):
    """The feedback does not say what answers its question; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class NewFeedback:
    """What a client sends.

    Attributes:
        rating: 1, -1, or 0 where passages alone are rated.
        completion_id: of the answer, as the chat completion named it.
        chat_id: what the front-end calls the conversation.
        question, answer: may be left out where the conversation was kept.
        reason: why, in the person's words.
        corrected_answer: what the answer should have been.
        ratings: 1, -1 or 0 (cited, and nothing said of it) for passages by their ids.
        sources: ids of the passages that [1], [2], ... in the answer stand for, if known.
        is_first: whether the question is known to have begun its conversation.
        details: what else is kept with it.
    """

    rating: int
    completion_id: str | None = None
    chat_id: str | None = None
    question: str | None = None
    answer: str | None = None
    reason: str | None = None
    corrected_answer: str | None = None
    ratings: Mapping[str, int] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    is_first: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


def give(
    session: Session, assistant_id: int, key: Key | None, new: NewFeedback
) -> tuple[Feedback, Forgotten]:
    """Store feedback of a key (None: the owner at the node itself), in place of what the same key
    gave to the same completion before (see `forget`); approve it if the owner trusts the key.

    The same feedback again stays as it is, so that what the owner decided about it stands too.

    Raises:
        FeedbackError: the question is not known, or a passage is none of this assistant's.
        TooMuchPendingError: `MOST_PENDING` of this key are waiting.
    """
    key_id = None if key is None else key.id
    turn = _turn(session, assistant_id, key_id, new)
    question = new.question or (turn and turn.question)
    if not question:
        raise FeedbackError(
            "question",
            "the question is missing: this node has not kept the conversation, so send it along",
        )
    if len(question) > questions.LONGEST_TEXT:
        raise FeedbackError("question", f"more than {questions.LONGEST_TEXT:,} characters")
    completion_id = turn.id if turn is not None else new.completion_id
    sources, is_first = new.sources, new.is_first
    known: dict[str, str] = {}
    if turn is not None:
        is_first = conversations.is_first(session, turn)
        sources = tuple(item.passage for item in turn.passages)
        known = {item.passage: item.document_id for item in turn.passages}
    named = list(dict.fromkeys([*sources, *new.ratings]))
    known |= _documents(session, assistant_id, named)
    for chunk_id in named:
        if chunk_id not in known:
            raise FeedbackError(
                "passages", f"there is no passage {chunk_id!r} in this assistant, or no more"
            )
    details = dict(new.details)
    if new.chat_id is not None:
        details["chat_id"] = new.chat_id
    if sources:
        details[SOURCES] = list(sources)
    if is_first:
        details[FIRST] = True
    given = Feedback(
        assistant_id=assistant_id,
        key_id=key_id,
        completion_id=completion_id,
        question=question,
        answer=new.answer or (turn and turn.answer),
        rating=new.rating,
        reason=new.reason,
        corrected_answer=new.corrected_answer,
        details=details,
        passages=[
            RatedPassage(document_id=known[name], passage=name, rating=new.ratings.get(name, 0))
            for name in named
        ],
    )
    same, others = _sent_before(session, given)
    if same is not None:
        return same, []
    forgotten = erase(session, others)
    if key is not None:
        _check_pending(session, key.id)
    session.add(given)
    session.flush()
    if key is None or key.feedback_is_approved:
        # What teaches nothing waits for the owner all the same.
        with suppress(NothingToLearnError):
            approve(session, given)
    return given, forgotten


def _sent_before(session: Session, given: Feedback) -> tuple[Feedback | None, list[int]]:
    """Whether the same key said the same of the same completion; the ids of what else it said."""
    if given.completion_id is None:
        return None, []
    own = select(Feedback).where(
        Feedback.assistant_id == given.assistant_id,
        Feedback.key_id == given.key_id,
        Feedback.completion_id == given.completion_id,
    )
    before = session.scalars(own.options(selectinload(Feedback.passages))).all()
    same = next((row for row in before if _told(row) == _told(given)), None)
    return same, [row.id for row in before]


def _told(given: Feedback) -> tuple[object, ...]:
    """All that the client said."""
    ratings = [(item.passage, item.rating) for item in given.passages]
    return (
        given.question, given.answer, given.rating, given.reason, given.corrected_answer,
        given.details, ratings,
    )  # fmt: skip


def approve(session: Session, given: Feedback) -> LabelledQuestion:
    """Make an example of feedback, or return the one that was made of it.

    Passages that were rated up answer the question; where none was rated and the answer was rated
    up, those that it cites do. Those that were rated down do not. The example's answer is the
    corrected one, or the answer itself if it was rated up.

    A corrected answer of whose passages nothing good was said teaches how to answer from those that
    it cites, or else from all that were read for it; see `QuestionOrigin`.

    Raises:
        NothingToLearnError: no passage that the assistant still has answers the question.
    """
    if given.question_id is not None:
        return session.get_one(LabelledQuestion, given.question_id)
    ratings, origin = _lesson(given), QuestionOrigin.FEEDBACK
    if not any(ratings.values()) and given.corrected_answer:
        read = _cited(given) or [item.passage for item in given.passages]
        ratings, origin = dict.fromkeys(read, True) | ratings, QuestionOrigin.CORRECTION
    if not any(ratings.values()):
        raise NothingToLearnError(
            "no passage is rated up, and the answer was neither rated up nor corrected and given "
            "with the passages that it cites: there is nothing to learn from it"
        )
    documents = _documents(session, given.assistant_id, ratings)
    if not any(ratings[name] for name in documents):
        raise NothingToLearnError(
            "the passages that answer it have changed since: nothing to learn"
        )
    answer = given.corrected_answer or (given.answer if given.rating > 0 else None)
    made = LabelledQuestion(
        assistant_id=given.assistant_id,
        text=given.question,
        answer=without_marks(answer).strip() or None if answer else None,
        origin=origin,
        relevant=[
            RelevantPassage(document_id=documents[name], passage=name, is_relevant=is_relevant)
            for name, is_relevant in ratings.items()
            if name in documents
        ],
    )
    session.add(made)
    session.flush()
    given.question_id = made.id
    given.state = FeedbackState.APPROVED
    session.flush()
    return made


def reject(session: Session, given: Feedback) -> Forgotten:
    """Learn nothing from feedback; an example that was made of it is erased, see `forget`."""
    forgotten: Forgotten = []
    if given.question_id is not None:
        forgotten = questions.erase(session, [given.question_id])
        given.question_id = None
    given.state = FeedbackState.REJECTED
    session.flush()
    return forgotten


def get(session: Session, assistant_id: int, feedback_id: int) -> Feedback | None:
    """One of an assistant."""
    own = select(Feedback).where(Feedback.assistant_id == assistant_id, Feedback.id == feedback_id)
    return session.scalars(own.options(selectinload(Feedback.passages))).one_or_none()


def list_page(
    session: Session,
    assistant_ids: Collection[int] | None,
    *,
    limit: int,
    after: int | None = None,
    state: FeedbackState | None = None,
    given_by: str | None = None,
    own: bool = False,
) -> Sequence[Feedback]:
    """At most `limit` of these assistants (None: all), newest first, with ids below `after`.

    With `own` only what the key `given_by` gave (None: the owner at the node itself).
    """
    query = select(Feedback).order_by(Feedback.id.desc()).limit(limit)
    if assistant_ids is not None:
        query = query.where(Feedback.assistant_id.in_(assistant_ids))
    if after is not None:
        query = query.where(Feedback.id < after)
    if state is not None:
        query = query.where(Feedback.state == state)
    if own:
        query = query.where(Feedback.key_id == given_by)
    return session.scalars(query.options(selectinload(Feedback.passages))).all()


def remove(session: Session, assistant_id: int, feedback_id: int) -> Erased:
    """Erase one, if it is there, with the example that was made of it."""
    return _remove(session, Feedback.assistant_id == assistant_id, Feedback.id == feedback_id)


def remove_own(session: Session, key_id: str | None, feedback_id: int) -> Erased:
    """The same on behalf of the key that gave it."""
    return _remove(session, Feedback.key_id == key_id, Feedback.id == feedback_id)


def remove_all(session: Session, assistant_id: int) -> Erased:
    """Erase all feedback of an assistant."""
    return _remove(session, Feedback.assistant_id == assistant_id)


def erase_about(session: Session, document_id: str) -> Forgotten:
    """Erase the feedback to answers that a document was cited or read for; see `forget`."""
    about = select(RatedPassage.feedback_id).where(RatedPassage.document_id == document_id)
    return erase(session, session.scalars(about.distinct()).all())


def erase(session: Session, ids: Collection[int]) -> Forgotten:
    """Erase feedback by id, with the examples that were made of it; see `forget`."""
    if not ids:
        return []
    made = select(Feedback.question_id).where(
        among(Feedback.id, ids), Feedback.question_id.is_not(None)
    )
    forgotten = questions.erase(session, [one for one in session.scalars(made) if one is not None])
    session.execute(delete(Feedback).where(among(Feedback.id, ids)))
    note_deletion(session)
    return forgotten


def _remove(session: Session, *which: Any) -> Erased:
    ids = session.scalars(select(Feedback.id).where(*which)).all()
    return Erased(len(ids), erase(session, ids))


def _turn(
    session: Session, assistant_id: int, key_id: str | None, new: NewFeedback
) -> ConversationTurn | None:
    """The kept turn that is meant. Another key's is as unknown as one that was not kept: whoever
    gives feedback is shown the question."""
    own = conversations.kept(assistant_id).where(ConversationTurn.key_id == key_id)
    if new.completion_id is not None:
        own = own.where(ConversationTurn.id == new.completion_id)
    elif new.question is None and new.chat_id is not None:
        own = own.where(ConversationTurn.chat_id == new.chat_id)
    else:
        return None
    found = session.scalars(own.options(selectinload(ConversationTurn.passages)).limit(2)).all()
    if len(found) > 1:
        raise FeedbackError(
            "completion_id", "the chat has several answers: say which by completion_id"
        )
    return found[0] if found else None


def _documents(session: Session, assistant_id: int, chunk_ids: Collection[str]) -> dict[str, str]:
    """The document of each passage that the assistant has."""
    own = select(Chunk.public_id, Chunk.document_id).where(
        Chunk.assistant_id == assistant_id, Chunk.public_id.in_(chunk_ids)
    )
    found: dict[str, str] = dict(session.execute(own).all())
    return found


def _check_pending(session: Session, key_id: str) -> None:
    waiting = select(func.count(Feedback.id)).where(
        Feedback.key_id == key_id, Feedback.state == FeedbackState.PENDING
    )
    if (session.scalar(waiting) or 0) >= MOST_PENDING:
        raise TooMuchPendingError(
            f"{MOST_PENDING:,} of this key wait for the owner, who has to look at them first"
        )


def _lesson(given: Feedback) -> dict[str, bool]:
    """Whether each passage that something was said of answers the question."""
    rated = {item.passage: item.rating > 0 for item in given.passages if item.rating}
    return rated if rated or given.rating <= 0 else dict.fromkeys(_cited(given), True)


def _cited(given: Feedback) -> list[str]:
    """The passages that the answer cites, as far as they are known."""
    sources = given.details.get(SOURCES)
    if sources is None:
        return [item.passage for item in given.passages]
    numbers = cited(given.answer or "")
    return [sources[number - 1] for number in numbers if 0 < number <= len(sources)]
