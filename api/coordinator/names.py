"""Parameters that many routes have."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator, Field

from federation import plan

LARGEST_ID = 2**53 - 1
"""What both databases, and a JSON number, can hold."""

LARGEST_PLAN = 64 << 20
"""Bytes of a request with a plan: its basis, public passages and first parameters are in it."""

NAME = f"^{plan.NAME.pattern}$"
KEY_ID = r"^[0-9a-f]{1,64}$"

PopulationName = Annotated[str, Path(pattern=NAME)]
FederationName = Annotated[str, Path(pattern=NAME)]
KeyId = Annotated[str, Path(pattern=KEY_ID)]
ParticipantId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
VersionNumber = Annotated[int, Path(ge=0, le=LARGEST_ID)]
OfPopulation = Annotated[
    str | None, Query(pattern=NAME, description="Only those of this population.")
]
Start = Annotated[int, Query(ge=0, le=LARGEST_ID)]
Limit = Annotated[int, Query(ge=1, le=1_000)]


def _printable(text: str) -> str:
    # PostgreSQL stores no NUL, and a terminal would obey the others.
    if not text.isprintable():
        raise ValueError("a text of printable characters in one line is expected")
    return text


Label = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
Reason = Annotated[str, Field(max_length=500), AfterValidator(_printable)]
