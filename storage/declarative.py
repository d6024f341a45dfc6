"""What the tables of the node and of the coordinator have in common."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum

from sqlalchemy import Enum as EnumColumn
from sqlalchemy import LargeBinary

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Migrations find a constraint by its name, so every one has a name."""


def _values(kind: type[Enum]) -> list[str]:
    return [member.value for member in kind]


COLUMN_TYPES = {
    bytes: LargeBinary,
    Enum: EnumColumn(Enum, native_enum=False, length=16, values_callable=_values),
}
"""For a `type_annotation_map`; an enumeration is stored as text, by its values."""


def now() -> int:
    """Seconds since the epoch."""
    return int(datetime.now(UTC).timestamp())
