"""Numbers, times and keys of federations in words that people read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nicegui import ui

UNITS = ("B", "kB", "MB", "GB")


def when(seconds: float) -> str:
    """A time since the epoch, such as '23 Nov 2026, 03:15 UTC'."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def size(count: int) -> str:
    """Bytes, such as '368.6 kB'."""
    value, unit = float(count), 0
    while value >= 1_000 and unit < len(UNITS) - 1:
        value, unit = value / 1_000, unit + 1
    return f"{value:.0f} {UNITS[unit]}" if unit == 0 else f"{value:.1f} {UNITS[unit]}"


def number(value: float) -> str:
    """At most four significant digits, such as '1e-5', '2.781' or '1,000,000'."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}".replace("e-0", "e-")


def counted(count: int, one: str) -> str:
    """Such as '1 round' and '2 rounds'."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def listed(words: list[str]) -> str:
    """Such as 'a', 'a or b', 'a, b or c'; 'none' without any."""
    if len(words) < 2:
        return "".join(words) or "none"
    return f"{', '.join(words[:-1])} or {words[-1]}"


def key_text(public_key: str) -> ui.label:
    """A fingerprint, a key or a hash, to be compared in full."""
    return ui.label(public_key).classes("plain font-mono text-sm")


def fact(name: str, value: str, *, is_key: bool = False) -> None:
    """One name with its value below."""
    with ui.column().classes("gap-0 w-full"):
        ui.label(name).classes("muted text-sm")
        shown = ui.label(value).classes("plain")
        if is_key:
            shown.classes("font-mono text-sm")


def guarantee(epsilon: dict[str, Any]) -> str:
    """An epsilon with all that it means nothing without."""
    twice = epsilon["epsilon_two_nodes"]
    both = (
        "" if twice is None else f" ({number(twice)} if the same {epsilon['unit']} is on two nodes)"
    )
    return (
        f"epsilon {number(epsilon['epsilon'])}{both} at delta {number(epsilon['delta'])}; mode "
        f"{epsilon['mode']}, for one {epsilon['unit']}, adjacency {epsilon['adjacency']}; assumes "
        f"that {epsilon['trust']}"
    )
