"""Parameters that many routes have."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import Field

LARGEST_ID = 2**53 - 1
"""What both databases, and a JSON number, can hold."""

PopulationName = Annotated[str, Path(max_length=63)]
FederationName = Annotated[str, Path(max_length=63)]
ParticipantId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
VersionNumber = Annotated[int, Path(ge=0, le=LARGEST_ID)]
OfPopulation = Annotated[
    str | None, Query(max_length=63, description="Only those of this population.")
]
Start = Annotated[int, Query(ge=0, le=LARGEST_ID)]
Limit = Annotated[int, Query(ge=1, le=1_000)]
Reason = Annotated[str, Field(max_length=500)]
