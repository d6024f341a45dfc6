"""Frozen dataclasses to JSON and back, without guessing.

A field that is missing, unknown or of another type is refused: a record that is not understood
whole is not understood. What `from_json` returns, `to_json` turns into the same JSON again.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from privacy.canonical import MAX_SAFE_INTEGER, JsonValue

Record = TypeVar("Record")


class RecordError(ValueError):
    """JSON does not describe the record that was expected; the message names the field."""


def to_json(record: Any) -> JsonValue:
    """The JSON of a frozen dataclass whose fields are strings, numbers, enums, tuples, records.

    Raises:
        RecordError: for a field that would not come back from canonical JSON as it was: NaN,
            infinities, numbers from 2^53 on, a type outside those named.
    """
    if isinstance(record, Enum):
        return to_json(record.value)
    if record is None or isinstance(record, bool | str):
        return record
    if isinstance(record, int | float):
        if not math.isfinite(record) or abs(record) > MAX_SAFE_INTEGER:
            raise RecordError(f"{record} cannot be written: numbers are finite and below 2^53")
        return record
    if isinstance(record, tuple):
        return [to_json(item) for item in record]
    if dataclasses.is_dataclass(record):
        return {f.name: to_json(getattr(record, f.name)) for f in dataclasses.fields(record)}
    raise RecordError(f"a {type(record).__name__} cannot be written")


def from_json(record_type: type[Record], value: JsonValue) -> Record:
    """The record of type `record_type` that `value` describes, checked field by field.

    Raises:
        RecordError: for a missing or unknown field, a wrong type, or a value that the record's
            own checks refuse.
    """
    return typing.cast(Record, _decode(record_type, value, record_type.__name__))


def _decode(expected: Any, value: JsonValue, where: str) -> object:
    if dataclasses.is_dataclass(expected):
        return _decode_record(typing.cast(type, expected), value, where)
    origin = typing.get_origin(expected)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (option for option in typing.get_args(expected) if option is not type(None))
        return None if value is None else _decode(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise RecordError(f"{where}: expected a list")
        item = typing.get_args(expected)[0]
        return tuple(_decode(item, entry, f"{where}[{i}]") for i, entry in enumerate(value))
    return _decode_scalar(expected, value, where)


def _decode_scalar(expected: type, value: JsonValue, where: str) -> object:
    if issubclass(expected, Enum):
        try:
            return expected(value)
        except ValueError:
            accepted = ", ".join(str(member.value) for member in expected)
            raise RecordError(f"{where}: expected one of {accepted}") from None
    # Canonical JSON writes 2.0 as 2, so a float may come back as an integer; never as a boolean.
    if expected is float and type(value) is int:
        return float(value)
    if type(value) is not expected:
        raise RecordError(f"{where}: expected {expected.__name__}, got {type(value).__name__}")
    return value


def _decode_record(expected: type, value: JsonValue, where: str) -> object:
    if not isinstance(value, dict):
        raise RecordError(f"{where}: expected an object")
    hints = _field_types(expected)
    missing, unknown = hints.keys() - value.keys(), value.keys() - hints.keys()
    if missing or unknown:
        raise RecordError(
            f"{where}: missing fields {sorted(missing)}, unknown fields {sorted(unknown)[:8]}"
        )
    fields = {name: _decode(hints[name], value[name], f"{where}.{name}") for name in hints}
    try:
        return expected(**fields)
    except RecordError:
        raise
    except ValueError as error:
        raise RecordError(f"{where}: {error}") from error


@cache
def _field_types(record_type: type) -> dict[str, Any]:
    hints = typing.get_type_hints(record_type)
    return {field.name: hints[field.name] for field in dataclasses.fields(record_type)}
