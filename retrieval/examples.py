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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from retrieval import chunking
from storage.database import Database
from storage.node_tables import Chunk, Document, LabelledQuestion, RelevantPassage

SUBJECT = "subject"
"""The attribute of documents that groups them."""

HELD_BACK_IN = 5
"""One example in so many is never trained on."""

SHORTEST_MADE = 3
"""Words of a question that is made from a title and headings."""


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

    def __init__(self, database: Database, secret: bytes) -> None:
        """`secret` orders subjects and decides what is held back; nobody else knows it."""
        self._database = database
        self._secret = secret

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
                # The same content under two ids has to belong to one of them.
                names[content_hash] = min(named, names.get(content_hash, named))
        grouped: dict[bytes, list[str]] = defaultdict(list)
        for content_hash, document_ids in copies.items():
            name = names.get(content_hash)
            what = b"content\0" + content_hash if name is None else b"name\0" + name.encode()
            grouped[self._keyed(b"subject\0" + what)] += document_ids
        return [Subject(key, tuple(sorted(grouped[key]))) for key in sorted(grouped)]

    def examples(self, subjects: Iterable[Subject]) -> list[tuple[bytes, tuple[Example, ...]]]:
        """Each subject's id and its examples for training, perhaps none."""
        with self._database.read() as session:
            return [(subject.subject_id, tuple(self._of(session, subject))) for subject in subjects]

    def held_back(self) -> list[HeldBack]:
        """What new versions are tried on: questions of every assistant."""
        found = []
        with self._database.read() as session:
            for subject in self.subjects():
                material = _Material(session, subject)
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
                for example in self._of(session, subject, held_back=True)
                if example.answer is not None
            ]

    def _of(
        self, session: Session, subject: Subject, *, held_back: bool = False
    ) -> Iterable[Example]:
        material = _Material(session, subject)
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


def fold_of(secret: bytes, question: str) -> int:
    """One of `HELD_BACK_IN` folds, by keyed hash; shared training never sees number 0."""
    return hmac.digest(secret, b"held back\0" + question.encode(), hashlib.sha256)[0] % HELD_BACK_IN


class _Material:
    """The passages of one subject and the questions that they answer."""

    def __init__(self, session: Session, subject: Subject) -> None:
        own = select(Chunk).where(Chunk.document_id.in_(subject.documents))
        self._chunks = session.scalars(own.order_by(Chunk.document_id, Chunk.position)).all()
        self._labelled = session.scalars(
            select(LabelledQuestion)
            .join(RelevantPassage)
            .where(RelevantPassage.document_id.in_(subject.documents))
            .options(selectinload(LabelledQuestion.relevant))
            .order_by(LabelledQuestion.id)
            .distinct()
        ).all()
        self._documents = frozenset(subject.documents)
        self.texts = tuple(dict.fromkeys(_text(chunk) for chunk in self._chunks))

    def questions(self) -> Iterable[tuple[str, str | None, Sequence[Chunk]]]:
        """Question, answer and the passages that answer it: those of the owner first."""
        for labelled in self._labelled:
            # A question about several subjects belongs to none of them.
            if all(item.document_id in self._documents for item in labelled.relevant):
                wanted = {(item.document_id, item.passage) for item in labelled.relevant}
                relevant = [
                    chunk
                    for chunk in self._chunks
                    if (chunk.document_id, None) in wanted
                    or (chunk.document_id, chunk.public_id) in wanted
                ]
                if relevant:
                    yield labelled.text, labelled.answer, relevant
        below: dict[str, list[Chunk]] = defaultdict(list)
        for chunk in self._chunks:
            below[" ".join(chunk.heading.split(" > "))].append(chunk)
        for heading, chunks in below.items():
            if len(heading.split()) >= SHORTEST_MADE:
                yield heading, None, chunks


def _text(chunk: Chunk) -> str:
    """The passage as it is embedded."""
    passage = chunking.Chunk(chunk.position, chunk.text, chunk.heading, chunk.page, 0, 0, 0)
    return passage.embedded_text
