"""What the auditor's pages share: numbers for people, and content that follows the head."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from nicegui import ui

from api.pages.frame import told

STYLE = """
.scrolled { width: 100%; overflow-x: auto; }
.scrolled .q-table__middle { overflow: visible; }
.scrolled .q-table__card { background: transparent; }
.accepted { color: #1d6b36; }
.refused { color: #a4160d; }
body.body--dark .accepted { color: #7fd6a0; }
body.body--dark .refused { color: #ff9d94; }
"""

VIEWS = {
    "epsilon_coordinator": "Towards the coordinator",
    "epsilon_release": "Towards readers of what is released",
    "epsilon_alone": "If all other nodes were dishonest",
}
"""Whom each of the three epsilons holds against, in words."""


def number(epsilon: float | None) -> str:
    """An epsilon for people."""
    return "unbounded" if epsilon is None else f"{epsilon:.4g}"


def meaning(modes: Iterable[str], fields: dict[str, Any]) -> str:
    """What an epsilon stands for, with the unit, adjacency and delta of `fields`."""
    named = ", ".join(modes) or "none yet"
    return (
        f"At delta {fields['delta']:.3g}; mode {named}; unit {fields['unit']}; adjacency "
        f"{fields['adjacency']}"
    )


def scrolled(label: str) -> ui.element:
    """A place for a wide table, which scrolls by itself and by keyboard where it does not fit."""
    place = ui.element("div").classes("scrolled").props("tabindex=0 role=region")
    place.props["aria-label"] = label
    return place


def later(what: str, load: Callable[[], Awaitable[None]]) -> None:
    """Fill this place once the page is open, and say until then that `what` is on its way."""
    place = ui.column().classes("w-full gap-4")
    with place, ui.row().classes("items-center muted").props("role=status") as waiting:
        ui.spinner()
        ui.label(f"{what} …")

    async def fill() -> None:
        with place:
            async with told():
                await load()
        waiting.delete()

    ui.timer(0, fill, once=True)


async def rows(get: Callable[..., Awaitable[Any]], path: str) -> list[dict[str, Any]]:
    """All entries of a list whose pages say where the next starts."""
    found: list[dict[str, Any]] = []
    start: int | None = 0
    while start is not None:
        page = await get(path, start=start)
        found += page["data"]
        start = page["next"]
    return found
