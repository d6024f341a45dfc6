"""A passage that an answer cites, where it stands in its document."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nicegui import ui

from api.pages.frame import Open, heading, told
from storage.node_tables import Scope

AROUND = 2
"""Passages before and after, which owners see; a user's key is shown what was cited."""


async def open_passage(page: Open, assistant: str, chunk_id: str) -> None:
    """Show it in a dialog, highlighted among its neighbours."""
    async with told():
        cited = await page.api.get(f"/v1/passages/{quote(chunk_id)}")
        around = [cited]
        if page.visitor.role == Scope.OWNER:
            path = f"/v1/assistants/{quote(assistant)}/documents/{quote(cited['document_id'])}"
            first = max(0, cited["position"] - AROUND)
            near = {"after": first - 1, "limit": cited["position"] + AROUND + 1 - first}
            around = (await page.api.get(f"{path}/passages", **near))["data"]
        _show(cited, around)


def _show(cited: dict[str, Any], around: list[dict[str, Any]]) -> None:
    with ui.dialog() as dialog, ui.card().classes("w-full max-w-2xl"):
        dialog.props("aria-label=Passage")
        heading(cited["title"] or cited["name"])
        page = f"page {cited['page']}, " if cited["page"] is not None else ""
        place = f"{cited['name']}, {page}passage {cited['position'] + 1}"
        ui.label(place).classes("muted")
        if cited["heading"]:
            ui.label(cited["heading"]).classes("font-semibold")
        for passage in around:
            shown = ui.label(passage["text"]).classes("plain w-full")
            if passage["chunk_id"] == cited["chunk_id"]:
                shown.classes("cited").props('role="mark"')
            else:
                shown.classes("muted")
        ui.button("Close", on_click=dialog.close).props("flat no-caps autofocus").classes(
            "self-end"
        )
    # A dialog that is closed is of no more use.
    dialog.on("hide", dialog.delete)
    dialog.open()
