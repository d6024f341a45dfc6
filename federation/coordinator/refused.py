"""Why the coordinator refuses something; what carries the refusal chooses the status."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What is wrong with a request."""

    INVALID = "invalid"
    """It cannot be understood, or makes no sense."""
    FORBIDDEN = "forbidden"
    """Not for this caller."""
    UNKNOWN = "unknown"
    """There is no such thing."""
    CONFLICT = "conflict"
    """Not in the present state."""


class RefusedError(Exception):
    """Nothing was changed. `code` is for programs and stays the same, `message` for people."""

    def __init__(self, kind: Kind, code: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.message = message


def invalid(code: str, message: str) -> RefusedError:
    return RefusedError(Kind.INVALID, code, message)


def forbidden(code: str, message: str) -> RefusedError:
    return RefusedError(Kind.FORBIDDEN, code, message)


def unknown(code: str, message: str) -> RefusedError:
    return RefusedError(Kind.UNKNOWN, code, message)


def conflict(code: str, message: str) -> RefusedError:
    return RefusedError(Kind.CONFLICT, code, message)
