"""Conditions on documents, as part of the retrieval query itself.

A filter is an object of conditions that must all hold: {"field": value} or {"field": {"$op":
operand}}, with {"$and": [...]} and {"$or": [...]} around them. A field is one of the document's
own (id, external_id, name, title, media_type, created_at, updated_at) or one of its attributes.
Operators are $eq $ne $in $nin $gt $gte $lt $lte $contains. Texts (by code point), numbers and
truth values are different kinds: an attribute of another kind than the operand equals nothing and
is neither less nor greater. A missing attribute is null. $ne and $nin hold wherever $eq and $in do
not. $contains takes a part of a text, in which A to Z and a to z are alike.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, and_, false, func, or_, true

from storage.node_tables import Document

Value = str | int | float | bool | None
Filter = dict[str, Any]
Kind = Literal["text", "number", "truth value", "null"]

OWN_FIELDS: Final[dict[str, tuple[Any, Kind]]] = {
    "id": (Document.id, "text"),
    "external_id": (Document.external_id, "text"),
    "name": (Document.name, "text"),
    "title": (Document.title, "text"),
    "media_type": (Document.media_type, "text"),
    "created_at": (Document.created_at, "number"),
    "updated_at": (Document.updated_at, "number"),
}
JSON_TYPES: Final[dict[Kind, tuple[str, ...]]] = {"text": ("text",), "number": ("integer", "real")}
MAX_CONDITIONS = 100
MAX_DEPTH = 5
MAX_ALTERNATIVES = 1_000

ORDER: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le,
}  # fmt: skip


class FilterError(ValueError):
    """The filter is not of the form described above; the message says where."""


def condition(given: Filter) -> ColumnElement[bool]:
    """The SQL condition on `Document` that a filter means. An empty filter allows everything.

    Raises:
        FilterError: the filter is malformed, or larger than it may be.
    """
    return _all_of(given, _Allowance(), depth=0)


@dataclass
class _Allowance:
    """How much more a filter may hold: SQLite takes expressions up to a certain size."""

    conditions: int = MAX_CONDITIONS
    alternatives: int = MAX_ALTERNATIVES

    def take(self, conditions: int = 0, alternatives: int = 0) -> None:
        self.conditions -= conditions
        self.alternatives -= alternatives
        if self.conditions < 0:
            raise FilterError(f"a filter may have {MAX_CONDITIONS} conditions")
        if self.alternatives < 0:
            raise FilterError(f"$in and $nin may list {MAX_ALTERNATIVES} values in all")


def _all_of(given: object, left: _Allowance, depth: int) -> ColumnElement[bool]:
    if not isinstance(given, dict):
        raise FilterError(f"a filter is an object, not {type(given).__name__}")
    if depth > MAX_DEPTH:
        raise FilterError(f"a filter may be nested {MAX_DEPTH} deep")
    if not given and depth:
        left.take(conditions=1)  # else a list of empty parts would cost nothing
    return and_(true(), *(_one(name, value, left, depth) for name, value in given.items()))


def _one(name: str, value: object, left: _Allowance, depth: int) -> ColumnElement[bool]:
    if name in ("$and", "$or"):
        if not isinstance(value, list) or not value:
            raise FilterError(f"{name} takes a list of filters")
        parts = [_all_of(part, left, depth + 1) for part in value]
        return and_(*parts) if name == "$and" else or_(*parts)
    if name.startswith("$"):
        raise FilterError(f"{name} cannot stand here; at this place a field, $and or $or can")
    field = _Field(name)
    conditions = value if isinstance(value, dict) else {"$eq": value}
    if not conditions:
        raise FilterError(f"the condition on {name} is empty")
    left.take(conditions=len(conditions))
    return and_(*(_compare(field, op, operand, left) for op, operand in conditions.items()))


def _compare(field: _Field, op: str, operand: object, left: _Allowance) -> ColumnElement[bool]:
    if op in ("$in", "$nin"):
        if not isinstance(operand, list):
            raise FilterError(f"{op} takes a list of values")
        left.take(alternatives=len(operand))
        among = field.among(operand)
        return among if op == "$in" else among.is_not(True)
    if op in ("$eq", "$ne"):
        equal = field.among([operand])
        return equal if op == "$eq" else equal.is_not(True)
    if op in ORDER:
        return field.ordered(op, operand)
    if op == "$contains":
        return field.containing(operand)
    raise FilterError(f"{op} is not known; known are $eq $ne $in $nin $gt $gte $lt $lte $contains")


class _Field:
    """A field of a document in SQL."""

    def __init__(self, name: str) -> None:
        if any(mark in name for mark in '"\\\0') or not _is_unicode(name):
            raise FilterError("the name of an attribute has no quotes, backslashes or zero bytes")
        self._name = name
        self._own: Kind | None = None
        if name in OWN_FIELDS:
            self._value, self._own = OWN_FIELDS[name]
        else:
            path = f'$."{name}"'
            self._value = func.json_extract(Document.attributes, path)
            self._type = func.json_type(Document.attributes, path)

    def among(self, values: list[Any]) -> ColumnElement[bool]:
        """Whether it equals one of `values`, each compared with its own kind."""
        by_kind: dict[Kind, list[Any]] = {}
        for value in values:
            by_kind.setdefault(self._kind(value), []).append(value)
        parts: list[ColumnElement[bool]] = [false()]
        if "null" in by_kind:
            parts.append(self._value.is_(None))
        if "truth value" in by_kind:
            parts.append(self._type.in_([str(value).lower() for value in by_kind["truth value"]]))
        parts += [
            self._of_kind(kind, self._value.in_(by_kind[kind]))
            for kind in JSON_TYPES
            if kind in by_kind
        ]
        return or_(*parts)

    def ordered(self, op: str, value: Any) -> ColumnElement[bool]:
        """Whether it is greater or less than `value`, of the same kind."""
        kind = self._kind(value)
        if kind not in JSON_TYPES:
            raise FilterError(f"{op} on {self._name} takes a number or a text")
        return self._of_kind(kind, ORDER[op](self._value, value))

    def containing(self, part: object) -> ColumnElement[bool]:
        """Whether it is a text with `part` in it."""
        if self._kind(part) != "text":
            raise FilterError(f"$contains on {self._name} takes a text")
        return self._of_kind("text", func.instr(func.lower(self._value), func.lower(part)) > 0)

    def _of_kind(self, kind: Kind, holds: ColumnElement[bool]) -> ColumnElement[bool]:
        return holds if self._own else and_(self._type.in_(JSON_TYPES[kind]), holds)

    def _kind(self, value: object) -> Kind:
        """The kind of an operand, which must be that of a field of the document's own."""
        kind = _kind(self._name, value)
        if self._own and kind not in (self._own, "null"):
            raise FilterError(f"{self._name} is compared with a {self._own}, not a {kind}")
        return kind


def _kind(name: str, value: object) -> Kind:
    match value:
        case None:
            return "null"
        case bool():
            return "truth value"
        case int() if not -(2**63) <= value < 2**63:
            raise FilterError(f"the number for {name} has more than 64 bits")
        case float() if not math.isfinite(value):
            raise FilterError(f"the number for {name} is not finite")
        case int() | float():
            return "number"
        case str() if _is_unicode(value):
            return "text"
    raise FilterError(f"{name} is compared with a text, a number, a truth value or null")


def _is_unicode(text: str) -> bool:
    """Whether it can be stored: JSON may hold half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
