"""Each assistant's mixture of dense and lexical scores, learned from questions of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from retrieval import fusion
from retrieval.search import Searcher
from storage.database import Database
from storage.node_tables import Assistant, Chunk, Document, WeightSource

MOST_QUESTIONS = 300
SHORTEST_TITLE = 3


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the documents that answer it."""

    text: str
    document_ids: frozenset[str]


def learn_from_labels(
    database: Database, searcher: Searcher, assistant_id: int, questions: Sequence[Question]
) -> float:
    """Fit and keep an assistant's weight on labelled questions (fusion.fit_weight)."""
    labelled = [
        fusion.Labelled(searcher.candidates(assistant_id, question.text), question.document_ids)
        for question in questions
    ]
    weight = fusion.fit_weight(labelled)
    with database.write() as session:
        assistant = session.get_one(Assistant, assistant_id)
        assistant.lexical_weight = weight
        assistant.weight_source = WeightSource.LABELS
    return weight


def learn_from_titles(database: Database, searcher: Searcher, assistant_id: int) -> None:
    """Fit and keep an assistant's weight on the headings and titles of its own documents.

    A weight that was learned from labelled questions stays. Of no headings there is none.

    A heading stands for a question that its document answers; it is matched with the texts below
    headings only, since in the headings it would find itself.
    """
    with database.read() as session:
        made = session.execute(
            select(Chunk.heading, Document.title, Document.id)
            .join(Document)
            .where(Chunk.assistant_id == assistant_id)
            .group_by(Document.id, Chunk.heading)
            # A multiplicative hash (Knuth) spreads the sample and repeats it the next time.
            .order_by(func.min(Chunk.id) * 2654435761 % 4294967296)
            .limit(MOST_QUESTIONS)
        ).all()
    labelled = [
        fusion.Labelled(
            searcher.candidates(assistant_id, question, text_only=True), frozenset({document_id})
        )
        for heading, title, document_id in made
        if len((question := f"{title} {heading}").split()) >= SHORTEST_TITLE
    ]
    weight = fusion.fit_weight(labelled) if made else None
    with database.write() as session:
        assistant = session.get(Assistant, assistant_id)
        if assistant is not None and assistant.weight_source is not WeightSource.LABELS:
            assistant.lexical_weight = weight
            assistant.weight_source = WeightSource.TITLES if made else None
