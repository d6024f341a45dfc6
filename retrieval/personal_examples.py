"""What one assistant's personal adapter learns from: its examples, and passages of its own.

All of it is put in an order that follows from a keyed hash of the texts, so that an adapter depends
on what there is and not on when it came: one that is trained after an erasure equals one that never
saw what was erased. What the limits cut off has no influence on the rest.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from retrieval.chunking import embedded_text
from retrieval.examples import fold_of, marks_of
from retrieval.headings import hidden_in, question_of
from storage.example_tables import LabelledQuestion, PersonalKind, QuestionOrigin
from storage.node_tables import Chunk, Document

MOST_EXAMPLES = 2_000
MOST_PASSAGES = 4_096
FEWEST_DOCUMENTS = 10
"""Fewer make no even folds."""


@dataclass(frozen=True, slots=True)
class PersonalExample:
    """A question with what answers it.

    Attributes:
        example_id: 32 bytes that follow from the question and order the examples.
        question: as asked.
        answer: the newest that the owner gave, if any.
        positives: rows of `PersonalMaterial.passages` that answer it, at least one.
        negatives: rows that were marked as not answering it.
        fold: below `FOLDS`, by keyed hash of its document: what is learnt has to help with
            documents that nobody has asked about yet. By that of the question where documents are
            few.
    """

    example_id: bytes
    question: str
    answer: str | None
    positives: tuple[int, ...]
    negatives: tuple[int, ...]
    fold: int


@dataclass(frozen=True, slots=True)
class PersonalMaterial:
    """What one adapter is trained on.

    Attributes:
        passages: texts as they are embedded, each once.
        examples: in the order of their ids.
        documents: ids of all documents that have any influence.
        questions: ids of all labelled questions that have any, with a hash of each.
        headings: (document, heading) of which questions were made.
        digest: of all texts, keyed, 64 hexadecimal digits.
    """

    passages: tuple[str, ...] = field(repr=False)
    examples: tuple[PersonalExample, ...] = field(repr=False)
    documents: frozenset[str] = field(repr=False)
    questions: dict[int, bytes] = field(repr=False)
    headings: frozenset[tuple[str, str]] = field(repr=False)
    digest: str


def read(
    session: Session, assistant_id: int, kind: PersonalKind, secret: bytes
) -> PersonalMaterial:
    """An assistant's material for an adapter of this kind.

    A retriever learns from all examples, those that headings make too, among the assistant's
    passages; a generator from those with an answer, with the passages that answer them.

    Args:
        secret: the node's, of 32 bytes; see `ExampleSource`.
    """
    return _Reader(session, assistant_id, kind, secret).material()


def held_back_fold(examples: Sequence[PersonalExample]) -> int:
    """The fold that a training which holds back one only holds back: the first that has any.

    Raises:
        ValueError: there are no examples.
    """
    return min(example.fold for example in examples)


def is_there(session: Session, assistant_id: int, material: PersonalMaterial) -> bool:
    """Whether nothing that has an influence was erased, edited or hidden since it was read."""
    documents = select(Document.id).where(Document.assistant_id == assistant_id)
    if not material.documents <= set(session.scalars(documents)):
        return False
    own = select(LabelledQuestion).where(LabelledQuestion.id.in_(material.questions))
    rows = session.scalars(own.options(selectinload(LabelledQuestion.relevant)))
    if {row.id: _hash_of(row) for row in rows} != material.questions:
        return False
    below = {document_id for document_id, _ in material.headings}
    return not material.headings & hidden_in(session, below)


@dataclass(slots=True)
class _Draft:
    """A question whose passages are still texts."""

    answer: str | None = None
    positives: set[str] = field(default_factory=set)
    negatives: set[str] = field(default_factory=set)
    labelled: set[int] = field(default_factory=set)
    headings: set[tuple[str, str]] = field(default_factory=set)


class _Reader:
    """Reads what an assistant has and chooses from it."""

    def __init__(
        self, session: Session, assistant_id: int, kind: PersonalKind, secret: bytes
    ) -> None:
        self._session = session
        self._assistant_id = assistant_id
        self._kind = kind
        self._secret = secret
        self._holders: dict[str, set[str]] = defaultdict(set)
        self._of_document: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._below: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._questions: dict[int, bytes] = {}

    def material(self) -> PersonalMaterial:
        self._read_passages()
        drafts: dict[str, _Draft] = defaultdict(_Draft)
        about = self._read_labelled(drafts)
        hiding: set[int] = set()
        if self._kind is PersonalKind.GENERATOR:
            drafts = {text: one for text, one in drafts.items() if one.answer is not None}
        else:
            hiding = self._add_headings(drafts)
        chosen = sorted(
            (text for text, draft in drafts.items() if draft.positives),
            key=lambda text: (not drafts[text].labelled, self._example_id(text)),
        )[:MOST_EXAMPLES]
        kept = {text: drafts[text] for text in sorted(chosen, key=self._example_id)}
        passages = self._choose_passages(kept.values())
        rows = {text: row for row, text in enumerate(passages)}
        folds = self._folds(kept)
        examples = tuple(
            example
            for text, draft in kept.items()
            if (example := self._example(text, draft, rows, folds[text])).positives
        )
        documents = set().union(*(self._holders[text] for text in passages))
        labelled = hiding.union(*(draft.labelled for draft in kept.values()))
        headings = set().union(*(draft.headings for draft in kept.values()))
        documents |= {document for number in labelled for document in about[number]}
        documents |= {document for document, _ in headings}
        return PersonalMaterial(
            passages,
            examples,
            frozenset(documents),
            {number: self._questions[number] for number in sorted(labelled)},
            frozenset(headings),
            self._digest(passages, examples),
        )

    def _read_passages(self) -> None:
        own = select(Chunk.document_id, Chunk.public_id, Chunk.heading, Chunk.text).where(
            Chunk.assistant_id == self._assistant_id
        )
        for row in self._session.execute(own):
            text = embedded_text(row.heading, row.text)
            self._holders[text].add(row.document_id)
            self._of_document[row.document_id].append((row.public_id, text))
            self._below[row.document_id, row.heading].append(text)

    def _read_labelled(self, drafts: dict[str, _Draft]) -> dict[int, set[str]]:
        """Adds the labelled questions; returns the documents that each of them is about."""
        own = select(LabelledQuestion).where(LabelledQuestion.assistant_id == self._assistant_id)
        if self._kind is PersonalKind.RETRIEVER:
            own = own.where(LabelledQuestion.origin != QuestionOrigin.CORRECTION)
        loaded = own.options(selectinload(LabelledQuestion.relevant))
        about = {}
        for row in self._session.scalars(loaded.order_by(LabelledQuestion.id)):
            draft = drafts[row.text]
            draft.labelled.add(row.id)
            draft.answer = row.answer if row.answer is not None else draft.answer
            about[row.id] = {item.document_id for item in row.relevant}
            marks = marks_of(row)
            for document_id in about[row.id]:
                for public_id, text in self._of_document[document_id]:
                    mark = marks(document_id, public_id)
                    if mark is not None:
                        (draft.positives if mark else draft.negatives).add(text)
            self._questions[row.id] = _hash_of(row)
        for draft in drafts.values():
            draft.negatives -= draft.positives
        return about

    def _add_headings(self, drafts: dict[str, _Draft]) -> set[int]:
        """Adds the questions that headings make; returns the labelled ones in whose favour others
        are not made, though their own passages may have changed since."""
        hiding: set[int] = set()
        hidden = hidden_in(self._session, self._of_document.keys())
        for (document_id, heading), texts in self._below.items():
            question = question_of(heading)
            if question is None or (document_id, heading) in hidden:
                continue
            draft = drafts[question]
            # What the owner said of a question weighs more than its being a heading.
            hiding |= draft.labelled
            if not draft.labelled:
                draft.positives.update(texts)
                draft.headings.add((document_id, heading))
        return hiding

    def _choose_passages(self, drafts: Iterable[_Draft]) -> tuple[str, ...]:
        named = set(chain.from_iterable(one.positives | one.negatives for one in drafts))
        every = named if self._kind is PersonalKind.GENERATOR else self._holders.keys()
        ranked = sorted(every, key=lambda text: (text not in named, self._passage_id(text)))
        return tuple(sorted(ranked[:MOST_PASSAGES], key=self._passage_id))

    def _folds(self, drafts: dict[str, _Draft]) -> dict[str, int]:
        """Of each question, those of one document together."""
        about = {
            question: min(self._passage_id(text) for text in self._neighbours(draft)).hex()
            for question, draft in drafts.items()
        }
        if len(set(about.values())) < FEWEST_DOCUMENTS:
            about = dict(zip(about, about, strict=True))
        return {question: fold_of(self._secret, name) for question, name in about.items()}

    def _neighbours(self, draft: _Draft) -> Iterable[str]:
        """All passages of the documents that hold what answers a question."""
        holders = set().union(*(self._holders[text] for text in draft.positives))
        return (text for document in holders for _, text in self._of_document[document])

    def _example(
        self, question: str, draft: _Draft, rows: dict[str, int], fold: int
    ) -> PersonalExample:
        return PersonalExample(
            example_id=self._example_id(question),
            question=question,
            answer=draft.answer,
            positives=tuple(sorted(rows[text] for text in draft.positives if text in rows)),
            negatives=tuple(sorted(rows[text] for text in draft.negatives if text in rows)),
            fold=fold,
        )

    def _example_id(self, question: str) -> bytes:
        return self._keyed(b"personal example\0" + question.encode())

    def _passage_id(self, text: str) -> bytes:
        return self._keyed(b"personal passage\0" + text.encode())

    def _digest(self, passages: Iterable[str], examples: Iterable[PersonalExample]) -> str:
        told = [repr(replace(example, example_id=b"")).encode() for example in examples]
        parts = [text.encode() for text in passages] + told
        joined = b"".join(hashlib.sha256(part).digest() for part in parts)
        return self._keyed(b"personal material\0" + joined).hex()

    def _keyed(self, message: bytes) -> bytes:
        return hmac.digest(self._secret, message, hashlib.sha256)


def _hash_of(row: LabelledQuestion) -> bytes:
    relevant = sorted(
        (item.document_id, item.passage or "", item.is_relevant) for item in row.relevant
    )
    return hashlib.sha256(repr((row.text, row.answer, relevant)).encode()).digest()
