"""Canonical JSON (RFC 8785): one value, one sequence of bytes, so that it can be hashed and signed.

Writing follows the RFC through the `rfc8785` library. Reading is stricter than JSON: only the
canonical bytes themselves are accepted, so two different files can never carry the same record.
"""

from __future__ import annotations

import json

import rfc8785

MAX_DEPTH = 32
MAX_SAFE_INTEGER = 2**53 - 1

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


class CanonicalError(ValueError):
    """A value has no canonical form, or bytes are not the canonical form of any value."""


def canonical_bytes(value: JsonValue) -> bytes:
    """The canonical form of `value` (RFC 8785, section 3.2), in UTF-8.

    Raises:
        CanonicalError: for NaN, infinities, integers beyond 2^53 - 1, lone surrogates, keys
            that are not strings and any other type.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise CanonicalError(f"no canonical form: {error}") from error
    except RecursionError:
        raise CanonicalError(f"nested deeper than {MAX_DEPTH} levels") from None


def parse_canonical(data: bytes) -> JsonValue:
    """The value whose canonical form is exactly `data`.

    Raises:
        CanonicalError: if `data` is not UTF-8, not JSON, nested deeper than `MAX_DEPTH`, repeats
            a key, holds a number that a double cannot hold exactly as written, or is not byte
            for byte what `canonical_bytes` would write.
    """
    try:
        value: JsonValue = json.loads(
            data.decode("utf-8"),
            parse_int=_safe_integer,
        )
    except UnicodeDecodeError as error:
        raise CanonicalError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise CanonicalError(f"not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError:
        raise CanonicalError(f"nested deeper than {MAX_DEPTH} levels") from None
    _check_depth(value)
    # Also catches repeated keys and NaN, which Python's parser lets pass.
    if canonical_bytes(value) != data:
        raise CanonicalError("valid JSON, but not in its canonical form (RFC 8785)")
    return value


def _safe_integer(digits: str) -> int:
    # The length comes first: converting millions of digits would itself be an attack.
    if len(digits) > len(str(-MAX_SAFE_INTEGER)) or abs(int(digits)) > MAX_SAFE_INTEGER:
        raise CanonicalError("an integer lies beyond 2^53 - 1")
    return int(digits)


def _check_depth(value: JsonValue) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise CanonicalError(f"nested deeper than {MAX_DEPTH} levels")


def _children(value: JsonValue) -> list[JsonValue]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
