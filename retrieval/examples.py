"""The node's own training examples, subject by subject, and those held back for trials.

A subject is a document unless the owner gave documents an attribute `subject` that groups them (all
of one patient); the same content in two assistants is one. Everything in an example comes from its
own subject, and nothing here counts, ranks or mines over others, so that a row of DP-SGD is a
function of its subject. Texts leave here, not the stored vectors: those were embedded in batches
with other documents, which moves their last bits.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, selectinload

from retrieval import headings
from retrieval.chunking import embedded_text
from retrieval.marks import without_marks
from storage.database import Database, among
from storage.example_tables import (
    FIRST,
    SOURCES,
    Feedback,
    LabelledQuestion,
    QuestionOrigin,
    RelevantPassage,
)
from storage.node_tables import Chunk, Document

SUBJECT = "subject"
"""The attribute of documents that groups them."""

FOLDS = 5
"""Of the examples; one of them is held back from all shared training."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question with texts of one subject.

    Attributes:
        example_id: 32 bytes that order the examples of a subject.
        question: as asked.
        answer: that the owner gave, if any; the generator learns from these only.
        positives: passages that answer it, at least one.
        negatives: passages of the same subject that do not.
    """

    example_id: bytes
    question: str
    answer: str | None
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """What one row protects; `documents` are the ids of all copies of all its documents."""

    subject_id: bytes
    documents: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A question that no training sees, with the documents of one assistant that answer it."""

    assistant_id: int
    question: str
    document_ids: frozenset[str]


class ExampleSource:
    """Reads examples from the node's database. Safe in any thread."""

    def __init__(
        self, database: Database, secret: bytes, shares_feedback: Callable[[], bool] = lambda: False
    ) -> None:
        """`secret` orders subjects and decides what is held back; nobody else knows it.
        `shares_feedback` says whether the owner agrees that feedback enters shared training."""
        self._database = database
        self._secret = secret
        self._shares_feedback = shares_feedback

    def subjects(self) -> list[Subject]:
        """All subjects of all assistants, in an order that says nothing about their content."""
        with self._database.read() as session:
            rows = session.execute(
                select(Document.id, Document.content_hash, Document.attributes)
            ).all()
        names: dict[bytes, str] = {}
        copies: dict[bytes, list[str]] = defaultdict(list)
        for document_id, content_hash, attributes in rows:
            copies[content_hash].append(document_id)
            named = attributes.get(SUBJECT)
            if isinstance(named, str) and named:
                # The same content under two names has to belong to one of them. It goes to the
                # other if that copy alone is erased; a whole subject is all copies.
                names[content_hash] = min(named, names.get(content_hash, named))
        grouped: dict[bytes, list[str]] = defaultdict(list)
        for content_hash, document_ids in copies.items():
            name = names.get(content_hash)
            what = b"content\0" + content_hash if name is None else b"name\0" + name.encode()
            grouped[self._keyed(b"subject\0" + what)] += document_ids
        return [Subject(key, tuple(sorted(grouped[key]))) for key in sorted(grouped)]

    def examples(self, subjects: Iterable[Subject]) -> list[tuple[bytes, tuple[Example, ...]]]:
        """Each subject's id and its examples for shared training, perhaps none."""
        feedback = self._shares_feedback()
        with self._database.read() as session:
            return [
                (one.subject_id, tuple(self._of(session, one, feedback=feedback)))
                for one in subjects
            ]

    def held_back(self) -> list[HeldBack]:
        """What new versions are tried on: questions of every assistant."""
        found = []
        with self._database.read() as session:
            for subject in self.subjects():
                # Trials stay on the node, so feedback counts in them without being shared.
                material = _Material(session, subject, feedback=True)
                for question, _, relevant in material.questions():
                    if not self._is_held_back(question):
                        continue
                    by_assistant: dict[int, set[str]] = defaultdict(set)
                    for chunk in relevant:
                        by_assistant[chunk.assistant_id].add(chunk.document_id)
                    found += [
                        HeldBack(assistant_id, question, frozenset(documents))
                        for assistant_id, documents in sorted(by_assistant.items())
                    ]
        return found

    def held_back_answers(self) -> list[Example]:
        """What new versions of a generator are tried on: held-back questions with an answer."""
        with self._database.read() as session:
            return [
                example
                for subject in self.subjects()
                for example in self._of(session, subject, feedback=True, held_back=True)
                if example.answer is not None
            ]

    def _of(
        self, session: Session, subject: Subject, *, feedback: bool, held_back: bool = False
    ) -> Iterable[Example]:
        material = _Material(session, subject, feedback=feedback)
        seen = set()
        for question, answer, relevant in material.questions():
            example_id = self._keyed(b"example\0" + subject.subject_id + question.encode())
            if example_id in seen or self._is_held_back(question) is not held_back:
                continue
            seen.add(example_id)
            positives = tuple(dict.fromkeys(_text(chunk) for chunk in relevant))
            others = (text for text in material.texts if text not in positives)
            yield Example(example_id, question, answer, positives, tuple(others))

    def _is_held_back(self, question: str) -> bool:
        return fold_of(self._secret, question) == 0

    def _keyed(self, message: bytes) -> bytes:
        return hmac.digest(self._secret, message, hashlib.sha256)


def fold_of(secret: bytes, name: str) -> int:
    """One of `FOLDS` folds, by keyed hash of a question, or of what else is to stay in one fold.

    Shared training never sees the questions of number 0.
    """
    return hmac.digest(secret, b"held back\0" + name.encode(), hashlib.sha256)[0] % FOLDS


class _Material:
    """The passages of one subject and the questions that they answer."""

    def __init__(self, session: Session, subject: Subject, *, feedback: bool) -> None:
        own = select(Chunk).where(among(Chunk.document_id, subject.documents))
        self._chunks = session.scalars(own.order_by(Chunk.document_id, Chunk.position)).all()
        asked = select(RelevantPassage.question_id).where(
            among(RelevantPassage.document_id, subject.documents), RelevantPassage.is_relevant
        )
        # A correction does not say what answers its question.
        origins = [QuestionOrigin.UPLOAD, *([QuestionOrigin.FEEDBACK] if feedback else ())]
        wanted = LabelledQuestion.id.in_(asked) & LabelledQuestion.origin.in_(origins)
        self._labelled = _labelled(session, wanted)
        self._given = _given(session, self._labelled)
        self._documents = frozenset(subject.documents)
        self._hidden = headings.hidden_in(session, subject.documents)
        self.texts = tuple(dict.fromkeys(_text(chunk) for chunk in self._chunks))

    def questions(self) -> Iterable[tuple[str, str | None, Sequence[Chunk]]]:
        """Question, answer and the passages that answer it: those of the owner first."""
        for labelled in self._labelled:
            # A question about several subjects belongs to none of them.
            if self._is_told(labelled) and self._names(labelled) <= self._documents:
                marks = marks_of(labelled)
                relevant = [c for c in self._chunks if marks(c.document_id, c.public_id)]
                if relevant:
                    yield labelled.text, self._answer(labelled), relevant
        for heading, chunks in _made(self._chunks, self._hidden).items():
            yield heading, None, chunks

    def _is_told(self, labelled: LabelledQuestion) -> bool:
        """Whether it is known what was read for the answer and that nothing was said before; else
        it may hold any subject's text."""
        given = self._given.get(labelled.id)
        return given is None or {SOURCES, FIRST} <= given.details.keys()

    def _names(self, labelled: LabelledQuestion) -> set[str]:
        """The documents that a question is about."""
        named = {item.document_id for item in labelled.relevant if item.is_relevant}
        if labelled.origin is QuestionOrigin.FEEDBACK:
            # Each passage of the answer may show in what was thought of it, and takes it along
            # when it is erased.
            named |= {item.document_id for item in labelled.relevant}
            named |= {item.document_id for item in self._given[labelled.id].passages}
        return named

    def _answer(self, labelled: LabelledQuestion) -> str | None:
        """What a person wrote: an answer that the node generated depends on more than its
        subject, for instance on the personal adapter."""
        given = self._given.get(labelled.id)
        if given is None or given.answer is None or labelled.answer is None:
            return labelled.answer
        said = (without_marks(text).strip() for text in (labelled.answer, given.answer))
        return None if len(set(said)) == 1 else labelled.answer


def _labelled(session: Session, condition: ColumnElement[bool]) -> list[LabelledQuestion]:
    """Uploaded questions before those from feedback: which one counts follows from them alone."""
    query = (
        select(LabelledQuestion)
        .where(condition)
        .options(selectinload(LabelledQuestion.relevant))
        .order_by(LabelledQuestion.origin.desc(), LabelledQuestion.id)
    )
    return list(session.scalars(query))


def _given(session: Session, labelled: Iterable[LabelledQuestion]) -> dict[int, Feedback]:
    """The feedback that each question was made of, by the question."""
    ids = [one.id for one in labelled if one.origin is QuestionOrigin.FEEDBACK]
    query = select(Feedback).where(among(Feedback.question_id, ids))
    rows = session.scalars(query.options(selectinload(Feedback.passages)))
    return {row.question_id: row for row in rows if row.question_id is not None}


def marks_of(labelled: LabelledQuestion) -> Callable[[str, str], bool | None]:
    """Whether a passage, by its document and its own id, was said to answer the question; None if
    nothing was said. What was said of itself goes before what was said of its document."""
    marks = {(item.document_id, item.passage): item.is_relevant for item in labelled.relevant}
    return lambda document, passage: marks.get((document, passage), marks.get((document, None)))


def _made(chunks: Iterable[Chunk], hidden: set[tuple[str, str]]) -> dict[str, list[Chunk]]:
    """The questions that headings make, with the passages below them."""
    below: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        question = headings.question_of(chunk.heading)
        if question is not None and (chunk.document_id, chunk.heading) not in hidden:
            below[question].append(chunk)
    return below


def _text(chunk: Chunk) -> str:
    """The passage as it is embedded."""
    return embedded_text(chunk.heading, chunk.text)
