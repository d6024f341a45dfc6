"""A document as the node keeps it: what is known of it, and its text passage by passage."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from api.pages.client import Api
from api.pages.frame import heading
from api.pages.parts import named
from api.pages.words import counted, moment, size

SHOWN_AT_ONCE = 30


async def preview(api: Api, assistant: str, document_id: str, position: int | None = None) -> None:
    """Open a dialog with the document; the passage at `position`, if any, is marked in view.

    Raises:
        RefusedError, SignedOutError: as `Api`.
    """
    path = f"/v1/assistants/{assistant}/documents/{document_id}"
    document = await api.get(path)
    passages = await api.every(f"{path}/passages", limit=200)
    with ui.dialog() as dialog, ui.card().classes("w-full max-w-3xl p-0 gap-0"):
        named(dialog, document["name"])
        with ui.row().classes("w-full items-start no-wrap p-4"):
            heading(document["name"]).classes("plain grow")
            ui.button(icon="close", on_click=dialog.close).props(
                "flat round dense autofocus aria-label=Close"
            )
        # Reached with the keyboard, so that it can be scrolled with it.
        with (
            ui.column()
            .classes("w-full overflow-auto px-4 pb-4 gap-4")
            .props('tabindex=0 role=region aria-label="Text of the document"') as text
        ):
            _facts(document)
            wanted = _Passages(passages, position).wanted
    if wanted is not None:
        # Before it is shown there is nothing to scroll. By its place in the text, not by that on
        # the screen (scrollIntoView): the dialog may still grow.
        dialog.on(
            "show",
            js_handler=f"""() => {{
              const text = getHtmlElement({text.id});
              text.scrollTop = getHtmlElement({wanted.id}).offsetTop - text.offsetTop;
            }}""",
        )
    dialog.on_value_change(lambda event: None if event.value else dialog.delete())
    dialog.open()


class _Passages:
    """As many as were asked for, up to the one that was looked for at least."""

    def __init__(self, passages: list[dict[str, Any]], position: int | None) -> None:
        self._passages = passages
        self._shown = 0
        self.wanted: ui.label | None = None
        self._column = ui.column().classes("w-full gap-4")
        self._more = ui.button("Show more", on_click=self._show).props("outline no-caps")
        self._show_up_to((position or 0) + SHOWN_AT_ONCE, position)

    def _show(self) -> None:
        self._show_up_to(self._shown + SHOWN_AT_ONCE)

    def _show_up_to(self, end: int, wanted: int | None = None) -> None:
        with self._column:
            for passage in self._passages[self._shown : end]:
                label = _passage(passage)
                if passage["position"] == wanted:
                    self.wanted = label.classes("cited").props('role="mark"')
        self._shown = min(end, len(self._passages))
        self._more.set_visibility(self._shown < len(self._passages))


def _facts(document: dict[str, Any]) -> None:
    facts = {
        "Title": document["title"],
        "Type": document["media_type"],
        "Size": size(document["bytes"]),
        "Pages": document["pages"],
        "Passages": f"{document['passages']:,}",
        "Version": document["version"],
        "Added": moment(document["created_at"]),
        "Replaced": moment(document["updated_at"]) if document["version"] > 1 else None,
        "Your id": document["external_id"],
        **document["attributes"],
    }
    with ui.element("dl").classes("grid gap-x-4 m-0").style("grid-template-columns: auto 1fr"):
        for name, value in facts.items():
            if value is not None:
                with ui.element("dt").classes("muted"):
                    ui.label(name)
                with ui.element("dd").classes("m-0 min-w-0"):
                    ui.label(str(value)).classes("plain")


def _passage(passage: dict[str, Any]) -> ui.label:
    number = f"Passage {passage['position'] + 1}"
    page = f"page {passage['page']}" if passage["page"] is not None else ""
    place = ", ".join(part for part in (number, page, passage["heading"]) if part)
    with ui.column().classes("w-full gap-1"):
        ui.label(place).classes("muted text-sm plain")
        return ui.label(passage["text"]).classes("plain")


def summary(document: dict[str, Any]) -> str:
    """What one line says of a document."""
    pages = counted(document["pages"], "page") if document["pages"] else ""
    version = f"version {document['version']}" if document["version"] > 1 else ""
    parts = [
        document["title"] if document["title"] != document["name"] else "",
        pages,
        counted(document["passages"], "passage"),
        size(document["bytes"]),
        version,
        moment(document["updated_at"]),
    ]
    return " · ".join(part for part in parts if part)
