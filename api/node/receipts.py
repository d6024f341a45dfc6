"""What the erasure of an example answers: how much went, and what went out of service with it."""

from __future__ import annotations

from pydantic import BaseModel

from api.bodies import RowBody
from storage.example_tables import PersonalKind


class WithdrawnVersion(BaseModel):
    """A personal version that learned from what was erased: when it went out of service, in seconds
    since the epoch, and the job that trains the next one; null if it was not served."""

    kind: PersonalKind
    version: int
    off_at: int
    job: str | None


class ErasedExamples(RowBody):
    """How many were erased, and what went out of service with them."""

    removed: int
    personal: list[WithdrawnVersion]
