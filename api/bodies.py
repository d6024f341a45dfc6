"""Bodies of answers that several parts have, or that are made from rows and records."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel


class Removed(BaseModel):
    """How many were erased."""

    removed: int


class RowBody(BaseModel):
    """An answer whose fields are attributes of a row or a record, by the same names."""

    @classmethod
    def of(cls, row: object, **other: Any) -> Self:
        """From the attributes of `row`; `other` are the fields that it lacks or has otherwise."""
        names = cls.model_fields.keys() - other.keys()
        return cls(**{name: getattr(row, name) for name in names}, **other)
