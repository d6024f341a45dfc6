"""The dialog in which one says what an answer, and each passage behind it, was worth."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nicegui import ui

from api.pages.actions import answer_of
from api.pages.frame import Open, heading, told

RATINGS = {0: "No opinion", 1: "Answers the question", -1: "Does not answer it"}


async def open_rating(
    page: Open, given: dict[str, Any], sources: list[dict[str, Any]], cited: Collection[str]
) -> bool:
    """Ask for a reason and the like, and send it all; False if it was given up.

    `given` are the fields of POST /v1/feedback that are known, `sources` the answer's passages, of
    which those in `cited` teach even if nothing is said of them.
    """
    passages = dict.fromkeys(cited, 0)
    with ui.dialog() as dialog, ui.card().classes("w-full max-w-xl gap-3"):
        dialog.props("aria-label=Feedback")
        heading("What was good?" if given["rating"] > 0 else "What was wrong?")
        reason = ui.textarea(label="Reason (optional)").props("outlined autogrow maxlength=2000")
        corrected = ui.textarea(label="A better answer (optional)")
        corrected.props("outlined autogrow maxlength=8000")
        for field in (reason, corrected):
            field.classes("w-full")
        corrected.set_visibility(given["rating"] < 0)
        if sources:
            with ui.expansion("Passages").classes("w-full").props("dense header-class=px-0"):
                for source in sources:
                    chunk_id = source["chunk_id"]
                    name = f"[{source['number']}] {source['heading'] or source['title']}"
                    ui.select(
                        RATINGS,
                        value=0,
                        label=name,
                        on_change=lambda event, key=chunk_id: passages.update({key: event.value}),
                    ).classes("w-full")
        ui.label(
            "The owner of the assistant reads it, and decides whether it learns from it."
        ).classes("muted")
        with ui.row().classes("self-end"):
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat no-caps")
            ui.button("Send", on_click=lambda: dialog.submit(True)).props("unelevated no-caps")
    if not await answer_of(dialog):
        return False
    rated = [{"chunk_id": name, "rating": rating} for name, rating in passages.items()]
    body = {
        **given,
        "reason": str(reason.value or "").strip() or None,
        "corrected_answer": str(corrected.value or "").strip() or None,
        "passages": rated,
        "sources": [source["chunk_id"] for source in sources],
    }
    async with told():
        await page.api.send("POST", "/v1/feedback", body)
        return True
    return False
