"""What the auditor's pages share: numbers for people, and content that follows the head."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from nicegui import ui

from api.pages.frame import told
from api.pages.words import number

VIEWS = {
    "epsilon_coordinator": "Towards the coordinator",
    "epsilon_release": "Towards readers of what is released",
    "epsilon_alone": "If all other nodes were dishonest",
}
"""Whom each of the three epsilons holds against, in words."""


def meaning(modes: Iterable[str], fields: dict[str, Any]) -> str:
    """What an epsilon stands for, with the unit, adjacency and delta of `fields`."""
    named = ", ".join(modes) or "none yet"
    return (
        f"At delta {number(fields['delta'])}; mode {named}; unit {fields['unit']}; adjacency "
        f"{fields['adjacency']}"
    )


def meaning_of_budget(budget: dict[str, Any]) -> str:
    """The same of what a population has spent, with what that assumes."""
    return (
        f"{meaning(budget['modes'], budget)}; kept at Renyi order {budget['order']}, towards the "
        f"coordinator. Assumes {budget['trust']}."
    )


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
