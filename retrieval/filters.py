"""Conditions on documents, as part of the retrieval query itself.

A filter is an object of conditions that must all hold: {"field": value} or {"field": {"$op":
operand}}, with {"$and": [...]} and {"$or": [...]} around them. A field is one of the document's
own (id, external_id, name, title, media_type, created_at, updated_at) or one of its attributes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, false, func, or_

from storage.node_tables import Document

Value = str | int | float | bool | None
Filter = dict[str, Any]

OWN_FIELDS: Final[dict[str, Any]] = {
    name: getattr(Document, name)
    for name in (
        "id", "external_id", "name", "title", "media_type", "created_at", "updated_at",
    )
}  # fmt: skip
MAX_CONDITIONS = 100
MAX_DEPTH = 5
MAX_ALTERNATIVES = 1_000


class FilterError(ValueError):
    """The filter is not of the form described above; the message says where."""


def condition(given: Filter) -> ColumnElement[bool]:
    """The SQL condition on `Document` that a filter means. An empty filter allows everything.

    Raises:
        FilterError: the filter is malformed, or larger than it may be.
    """
    remaining = [MAX_CONDITIONS]
    return _all_of(given, remaining, depth=0)


def _all_of(given: object, remaining: list[int], depth: int) -> ColumnElement[bool]:
    if not isinstance(given, dict):
        raise FilterError(f"a filter is an object, not {type(given).__name__}")
    if depth > MAX_DEPTH:
        raise FilterError(f"a filter may be nested {MAX_DEPTH} deep")
    return and_(True, *(_one(name, value, remaining, depth) for name, value in given.items()))


def _one(name: str, value: object, remaining: list[int], depth: int) -> ColumnElement[bool]:
    remaining[0] -= 1
    if remaining[0] < 0:
        raise FilterError(f"a filter may have {MAX_CONDITIONS} conditions")
    if name in ("$and", "$or"):
        if not isinstance(value, list) or not value:
            raise FilterError(f"{name} takes a list of filters")
        parts = [_all_of(part, remaining, depth + 1) for part in value]
        return and_(*parts) if name == "$and" else or_(*parts)
    if name.startswith("$"):
        raise FilterError(f"{name} cannot stand here; at this place a field, $and or $or can")
    conditions = value if isinstance(value, dict) else {"$eq": value}
    if not conditions:
        raise FilterError(f"the condition on {name} is empty")
    return and_(*(_compare(name, op, operand) for op, operand in conditions.items()))


def _compare(name: str, op: str, operand: object) -> ColumnElement[bool]:
    field = _field(name)
    if op in ("$in", "$nin"):
        if not isinstance(operand, list) or len(operand) > MAX_ALTERNATIVES:
            raise FilterError(f"{op} takes a list of at most {MAX_ALTERNATIVES} values")
        values = [_value(name, item) for item in operand]
        among = or_(false(), *(_equal(field, item) for item in values))
        return among if op == "$in" else among.is_not(True)
    value = _value(name, operand)
    if op == "$eq":
        return _equal(field, value)
    if op == "$ne":
        return _equal(field, value).is_not(True)
    if op in _ORDER:
        if value is None:
            raise FilterError(f"{op} on {name} takes a number or a text")
        ordered: ColumnElement[bool] = _ORDER[op](field, value)
        return ordered
    raise FilterError(f"{op} is not known; known are $eq $ne $in $nin $gt $gte $lt $lte")


_ORDER: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le,
}  # fmt: skip


def _field(name: str) -> Any:
    if name in OWN_FIELDS:
        return OWN_FIELDS[name]
    if '"' in name or "\\" in name or "\0" in name:
        raise FilterError("the name of an attribute has no quotes, backslashes or zero bytes")
    return func.json_extract(Document.attributes, f'$."{name}"')


def _equal(field: Any, value: Value) -> ColumnElement[bool]:
    equal: ColumnElement[bool] = field.is_(None) if value is None else field == value
    return equal


def _value(name: str, value: object) -> Value:
    if value is None or isinstance(value, str | int | float | bool):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise FilterError(f"the number for {name} has more than 64 bits")
        return value
    raise FilterError(f"{name} is compared with a text, a number, a truth value or null")
