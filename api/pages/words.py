"""Times, sizes, counts and epsilons as people read them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_SECONDS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def moment(seconds: float) -> str:
    """A time (seconds since the epoch), to the minute; servers speak UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%-d %b %Y, %H:%M} UTC"


def ago(seconds: float) -> str:
    """How long ago a time was, or how far away it is."""
    passed = time.time() - seconds
    if abs(passed) < 60:
        return "just now" if passed >= 0 else "in less than a minute"
    return f"{duration(passed)} ago" if passed > 0 else f"in {duration(-passed)}"


def duration(seconds: float) -> str:
    """A length of time in its largest fitting unit."""
    for name, length in _SECONDS:
        if seconds >= length:
            return counted(round(seconds / length), name)
    return f"{seconds:.3g} s"


def size(count: float) -> str:
    """Bytes, in decimal units."""
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= bytes_:
            return f"{count / bytes_:.3g} {unit}"
    return counted(int(count), "byte")


def counted(number: int, one: str) -> str:
    """`3 passages`; `one` is the word for one of them."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def number(value: float | None) -> str:
    """At most four significant digits, such as '1e-5', '2.781' or '1,000,000'; an epsilon without
    a bound is None."""
    if value is None:
        return "unbounded"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}".replace("e-0", "e-")
