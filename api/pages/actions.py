"""What buttons do: one request at a time, and nothing of consequence without asking first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from nicegui import ui

from api.pages.frame import heading, told


@asynccontextmanager
async def working(button: ui.button) -> AsyncIterator[None]:
    """A request that `button` makes: it is disabled meanwhile, and a refusal is told."""
    if not button.is_deleted:
        button.disable()
    try:
        with ui.context.client.content:
            async with told():
                yield
    finally:
        # What was done may have made the place of the button anew.
        if not button.is_deleted:
            button.enable()


async def confirmed(
    question: str, consequence: str, action: str, *, reason: str = ""
) -> str | None:
    """Ask before something is done, naming what it is done to.

    Args:
        action: what the button that does it says.
        reason: label of a field for the reason; without it none is asked for.

    Returns:
        The reason, None if it was given up.
    """
    # On the page itself: the place of the button that asks may be made anew while one reads.
    root = ui.context.client.content
    with root, ui.dialog() as dialog, ui.card().classes("w-full max-w-lg gap-3"):
        dialog.props("aria-label=Confirmation")
        heading(question).classes("plain")
        ui.label(consequence).classes("plain")
        given = ui.input(reason).props("outlined maxlength=500").classes("w-full")
        given.set_visibility(bool(reason))
        with ui.row().classes("self-end"):
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat no-caps")
            ui.button(action, on_click=lambda: dialog.submit(True)).props("unelevated no-caps")
    is_confirmed = await answer_of(dialog)
    return str(given.value or "").strip() if is_confirmed else None


async def answer_of(dialog: ui.dialog) -> Any:
    """What an opened dialog is closed with; None if its page was left. It is used once."""
    answer = await dialog
    # Leaving a page has deleted everything on it.
    if not dialog.is_deleted:
        dialog.delete()
    return answer
