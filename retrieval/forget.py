"""Personal adapters that learned from something that is erased go with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from retrieval import jobs
from storage.database import among, note_deletion
from storage.declarative import now
from storage.example_tables import (
    PersonalKind,
    PersonalQuestion,
    PersonalSource,
    PersonalState,
    PersonalVersion,
)

Forgotten = list[dict[str, Any]]
"""For each version its kind, its number, when it went out of service, and the job that trains the
next one, None if it was not served: the part "personal" of an erasure's receipt."""


@dataclass(frozen=True, slots=True)
class Erased:
    """How many examples an erasure removed, and what went out of service with them."""

    removed: int
    personal: Forgotten


def forget(
    session: Session, *, documents: Collection[str] = (), questions: Collection[int] = ()
) -> Forgotten:
    """Delete every personal version on which one of these had an influence, in the transaction
    that erases it; one that was served is to be trained again.
    """
    of_documents = select(PersonalSource.version_id).where(
        among(PersonalSource.document_id, documents)
    )
    of_questions = select(PersonalQuestion.version_id).where(
        among(PersonalQuestion.question_id, questions)
    )
    rows = session.scalars(
        select(PersonalVersion)
        .where(or_(PersonalVersion.id.in_(of_documents), PersonalVersion.id.in_(of_questions)))
        .order_by(PersonalVersion.id)
    ).all()
    served: dict[int, set[PersonalKind]] = defaultdict(set)
    for row in rows:
        if row.state is PersonalState.SERVED:
            served[row.assistant_id].add(row.kind)
    job_ids = {
        assistant_id: jobs.create_personal(session, assistant_id, kinds).id
        for assistant_id, kinds in served.items()
    }
    forgotten = [
        {
            "kind": row.kind.value,
            "version": row.id,
            "off_at": now(),
            "job": job_ids[row.assistant_id] if row.state is PersonalState.SERVED else None,
        }
        for row in rows
    ]
    if rows:
        gone = PersonalVersion.id.in_([row.id for row in rows])
        session.execute(delete(PersonalVersion).where(gone))
        note_deletion(session)
    return forgotten
