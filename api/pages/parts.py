"""Small things that several pages show."""

from __future__ import annotations

from datetime import UTC, datetime

from nicegui import ui


def named(element: ui.element, name: str) -> None:
    """What a screen reader calls it; `name` may be anything that somebody typed."""
    element.props["aria-label"] = name


def moment(seconds: int) -> str:
    """A time since the epoch, for people."""
    return f"{datetime.fromtimestamp(seconds, UTC):%-d %b %Y, %H:%M} UTC"


def size(count: float) -> str:
    """Bytes, for people."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"


def counted(number: int, one: str) -> str:
    """`3 passages`; `one` is the word for one of them."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"
