"""Times, sizes and epsilons as people read them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_SECONDS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def when(seconds: float) -> str:
    """A moment (seconds since the epoch), to the minute; coordinators speak UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%-d %b %Y, %H:%M UTC")


def ago(seconds: float) -> str:
    """How long ago a moment was, or how far away it is."""
    passed = time.time() - seconds
    if abs(passed) < 60:
        return "just now" if passed >= 0 else "in less than a minute"
    return f"{duration(passed)} ago" if passed > 0 else f"in {duration(-passed)}"


def duration(seconds: float) -> str:
    """A length of time in its largest fitting unit."""
    for name, length in _SECONDS:
        count = round(seconds / length)
        if seconds >= length:
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{seconds:.3g} s"


def size(count: int) -> str:
    """Bytes, in decimal units."""
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= bytes_:
            return f"{count / bytes_:.3g} {unit}"
    return f"{count} B"


def epsilon(value: float | None) -> str:
    """An epsilon; one without a bound is None."""
    return "unbounded" if value is None else f"{value:.4g}"
