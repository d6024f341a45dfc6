"""An assistant's documents: searched, looked at, replaced, chosen to be erased."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from nicegui import ui

from api.node.pages.preview import preview, summary
from api.node.pages.sending import Sender
from api.pages.actions import working
from api.pages.client import Api
from api.pages.frame import heading, told
from api.pages.parts import named
from api.pages.words import counted

SHOWN_AT_ONCE = 50
PASSAGES = 8
LONGEST_EXCERPT = 300

Erase = Callable[[Sequence[dict[str, Any]]], Awaitable[None]]


class _Row(NamedTuple):
    document: dict[str, Any]
    place: ui.element
    box: ui.checkbox


class DocumentList:
    """The documents, newest first, or those that a search finds by name and by text."""

    def __init__(
        self, api: Api, assistant: str, *, erase: Erase, on_sent: Callable[[], Awaitable[None]]
    ) -> None:
        self._api = api
        self._assistant = assistant
        self._path = f"/v1/assistants/{assistant}/documents"
        self._erase = erase
        self._on_sent = on_sent
        self._rows: dict[str, _Row] = {}
        self._chosen: dict[str, dict[str, Any]] = {}
        self._searched = ""
        self._wanted = SHOWN_AT_ONCE
        self._asked = 0
        with ui.card().classes("panel gap-3"):
            heading("Documents")
            self._search_field()
            self._passages = ui.column().classes("w-full gap-2")
            self._caption = ui.label().props("role=status").classes("muted")
            self._list = ui.element("ul").classes("w-full list-none p-0 m-0")
            with ui.row().classes("w-full items-center"):
                self._more = ui.button("Show more", on_click=self._show_more)
                self._more.props("outline no-caps")
                ui.space()
                self._erase_chosen = ui.button(on_click=self._erase_all).props(
                    "outline no-caps color=negative"
                )
        self._count_chosen()

    async def show(self) -> None:
        """What is searched as it is now: as many as before, and what is chosen stays so."""
        self._asked += 1
        asked = self._asked
        async with working(self._more):
            part = {"$contains": self._searched}
            where = {"$or": [{"name": part}, {"title": part}]} if self._searched else {}
            documents, is_cut = await self._api.first(
                self._path, self._wanted, ids=self._chosen, filter=json.dumps(where)
            )
            caption = await self._described(len(documents), is_cut)
            # An answer that a later call has overtaken is not shown.
            if asked == self._asked:
                self._show_rows(documents)
                self._caption.set_text(caption)
                self._more.set_visibility(is_cut)

    def _search_field(self) -> None:
        with ui.row().classes("w-full items-center gap-2 no-wrap"):
            field = ui.input("Search names and texts").props("outlined dense clearable type=search")
            field.classes("grow").on("keydown.enter", lambda: self._search(field.value or ""))
            field.on("clear", lambda: self._search(""))
            ui.button("Search", on_click=lambda: self._search(field.value or "")).props(
                "outline no-caps"
            )

    async def _search(self, words: str) -> None:
        searched = self._searched = words.strip()
        self._wanted = SHOWN_AT_ONCE
        self._passages.clear()
        for row in self._rows.values():
            row.box.set_value(False)
        await self.show()
        if not searched:
            return
        async with told():
            body = {"assistant": self._assistant, "query": searched, "limit": PASSAGES}
            found = (await self._api.send("POST", "/v1/search", body))["data"]
            # What is searched since then has its own.
            if searched == self._searched:
                self._show_passages(found)

    def _show_passages(self, found: list[dict[str, Any]]) -> None:
        self._passages.clear()
        with self._passages:
            heading("In the texts, best first", 3)
            if not found:
                ui.label("No passage fits.").classes("muted")
            with ui.element("ol").classes("list-none p-0 m-0 w-full"):
                for passage in found:
                    self._found(passage)

    def _found(self, passage: dict[str, Any]) -> None:
        text = passage["text"]
        excerpt = text[:LONGEST_EXCERPT] + ("…" if len(text) > LONGEST_EXCERPT else "")
        with ui.element("li").classes("py-1"):
            self._opener(
                passage["name"],
                lambda: preview(
                    self._api, self._assistant, passage["document_id"], passage["position"]
                ),
            )
            ui.label(excerpt).classes("muted text-sm plain")

    def _opener(self, name: str, show: Callable[[], Awaitable[None]]) -> None:
        async def opened() -> None:
            async with working(button):
                await show()

        button = ui.button(name, on_click=opened).props("flat dense no-caps align=left")
        button.classes("plain text-left font-semibold")

    async def _show_more(self) -> None:
        self._wanted = len(self._rows) + SHOWN_AT_ONCE
        await self.show()

    async def _described(self, shown: int, is_cut: bool) -> str:
        if self._searched:
            more = " or more" if is_cut else ""
            named_so = counted(shown, "document") + more if shown else "No document"
            return f"{named_so} with “{self._searched}” in its name or title."
        if shown == 0:
            return "There are no documents yet. Add some above."
        assistant = await self._api.get(f"/v1/assistants/{self._assistant}")
        return (
            f"{counted(assistant['documents'], 'document')} with "
            f"{counted(assistant['passages'], 'passage')}, newest first."
        )

    def _show_rows(self, documents: list[dict[str, Any]]) -> None:
        """Rows of documents that are as they were stay, with what has the focus in them."""
        now = {document["id"]: document for document in documents}
        for name, row in list(self._rows.items()):
            if now.get(name) != row.document:
                row.place.delete()
                del self._rows[name]
        self._chosen = {name: now[name] for name in self._chosen if name in now}
        self._count_chosen()
        for index, (name, document) in enumerate(now.items()):
            if name not in self._rows:
                with self._list:
                    self._rows[name] = self._row(document)
                self._rows[name].place.move(target_index=index)

    def _row(self, document: dict[str, Any]) -> _Row:
        name = document["name"]
        with (
            ui.element("li")
            .classes("flex flex-wrap items-center gap-x-2 py-1")
            .style("border-top: 1px solid var(--line)") as place
        ):
            box = ui.checkbox(
                value=document["id"] in self._chosen,
                on_change=lambda event: self._choose(document, event.value),
            )
            named(box, f"Choose {name}")
            with ui.column().classes("gap-0 min-w-0").style("flex: 1 1 12rem"):
                self._opener(name, lambda: preview(self._api, self._assistant, document["id"]))
                ui.label(summary(document)).classes("muted text-sm plain px-1")
            with ui.row().classes("ml-auto gap-2"):
                replace = ui.button("Replace", on_click=lambda: self._replace(document))
                named(replace.props("flat dense no-caps"), f"Replace {name}")
                erase = ui.button("Erase", on_click=lambda: self._erase([document]))
                named(erase.props("flat dense no-caps color=negative"), f"Erase {name}")
        return _Row(document, place, box)

    def _choose(self, document: dict[str, Any], is_chosen: bool) -> None:
        if is_chosen:
            self._chosen[document["id"]] = document
        else:
            self._chosen.pop(document["id"], None)
        self._count_chosen()

    def _count_chosen(self) -> None:
        self._erase_chosen.set_text(f"Erase {counted(len(self._chosen), 'chosen document')}")
        self._erase_chosen.set_visibility(bool(self._chosen))

    async def _erase_all(self) -> None:
        await self._erase(list(self._chosen.values()))

    def _replace(self, document: dict[str, Any]) -> None:
        # On the page itself: the row may be made anew while a file is looked for.
        root = ui.context.client.content
        with root, ui.dialog() as dialog, ui.card().classes("w-full max-w-lg") as zone:
            named(dialog, f"Replace {document['name']}")
            heading(f"Replace “{document['name']}”").classes("plain")
            ui.label(
                "A new file takes its place, under the same id and with the same attributes. "
                "Until it is read, questions are answered from the old one."
            )

            async def sent() -> None:
                with root:
                    dialog.close()
                    await self._on_sent()

            Sender(
                f"{self._path}/{document['id']}",
                zone=zone, on_sent=sent, method="PUT", is_multiple=False,
            )  # fmt: skip
            ui.button("Cancel", on_click=dialog.close).props("flat no-caps").classes("self-end")
        dialog.on_value_change(lambda event: None if event.value else dialog.delete())
        dialog.open()
