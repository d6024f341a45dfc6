"""Numbers, keys and guarantees of federations in words that people read."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from api.pages.words import number


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
        if is_key:
            key_text(value)
        else:
            ui.label(value).classes("plain")


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
