"""Questions made from titles and headings: listed for the owner, and hidden by the owner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from retrieval.forget import Erased, forget
from storage.database import among, note_deletion
from storage.example_tables import HiddenHeading
from storage.node_tables import Chunk

SHORTEST_MADE = 3
"""Words of a question that is made from a title and headings."""


@dataclass(frozen=True, slots=True)
class MadeQuestion:
    """A heading taken for a question that the passages below it answer.

    Its id is that of the first of these passages, and changes with the document.
    """

    id: str
    text: str
    relevant: tuple[str, ...]


def question_of(heading: str) -> str | None:
    """The question that a passage's heading makes; None if it has too few words."""
    text = " ".join(heading.split(" > "))
    return text if len(text.split()) >= SHORTEST_MADE else None


def list_page(
    session: Session, assistant_id: int, *, limit: int, after: str | None = None
) -> list[MadeQuestion]:
    """At most `limit` of those that are not hidden, by document and place, after that id.

    Raises:
        KeyError: there is no passage `after` in this assistant.
    """
    first = func.min(Chunk.position)
    hidden = (
        select(HiddenHeading.heading)
        .where(
            HiddenHeading.document_id == Chunk.document_id, HiddenHeading.heading == Chunk.heading
        )
        .exists()
    )
    groups = (
        select(Chunk.document_id, Chunk.heading)
        .where(Chunk.assistant_id == assistant_id, ~hidden)
        .group_by(Chunk.document_id, Chunk.heading)
        .order_by(Chunk.document_id, first)
    )
    if after is not None:
        start = _passage(session, assistant_id, after)
        if start is None:
            raise KeyError(after)
        groups = groups.having(
            tuple_(Chunk.document_id, first) > tuple_(start.document_id, start.position)
        )
    made: dict[tuple[str, str], str] = {}
    for document_id, heading in session.execute(groups.execution_options(yield_per=limit)):
        text = question_of(heading)
        if text is not None:
            made[document_id, heading] = text
        if len(made) == limit:
            break
    below = _below(session, {document_id for document_id, _ in made})
    return [MadeQuestion(below[key][0], text, tuple(below[key])) for key, text in made.items()]


def hide(session: Session, assistant_id: int, question_id: str) -> Erased:
    """Have no more questions made from the heading of that passage, if it makes one.

    What learned from it is forgotten, as after an erasure.
    """
    passage = _passage(session, assistant_id, question_id)
    if passage is None or question_of(passage.heading) is None:
        return Erased(0, [])
    key = (passage.document_id, passage.heading)
    if session.get(HiddenHeading, key) is not None:
        return Erased(0, [])
    session.add(HiddenHeading(document_id=key[0], heading=key[1]))
    note_deletion(session)
    return Erased(1, forget(session, documents=[passage.document_id]))


def hidden_in(session: Session, documents: Collection[str]) -> set[tuple[str, str]]:
    """(document, heading) of which the owner wants no question made, in documents by their ids."""
    query = select(HiddenHeading).where(among(HiddenHeading.document_id, documents))
    return {(row.document_id, row.heading) for row in session.scalars(query)}


def _passage(session: Session, assistant_id: int, public_id: str) -> Chunk | None:
    own = select(Chunk).where(Chunk.assistant_id == assistant_id, Chunk.public_id == public_id)
    return session.scalars(own).one_or_none()


def _below(session: Session, document_ids: set[str]) -> dict[tuple[str, str], list[str]]:
    """The passages of each document and heading, in order."""
    rows = session.execute(
        select(Chunk.document_id, Chunk.heading, Chunk.public_id)
        .where(Chunk.document_id.in_(document_ids))
        .order_by(Chunk.document_id, Chunk.position)
    )
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for document_id, heading, public_id in rows:
        found[document_id, heading].append(public_id)
    return found
