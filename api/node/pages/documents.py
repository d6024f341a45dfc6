"""The page of an assistant's documents: add many, see what became of each, search, erase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from nicegui import ui

from api.node.pages.document_list import DocumentList
from api.node.pages.erasures import Erasures
from api.node.pages.links import BRAND, links
from api.node.pages.reading import Reading
from api.node.pages.sending import Sender
from api.pages.client import Api
from api.pages.frame import BUILD_SECONDS, frame, heading, opened, told
from api.pages.sessions import Sessions


def define(app: FastAPI, sessions: Sessions) -> None:
    @ui.page("/documents", response_timeout=BUILD_SECONDS)
    async def documents(request: Request, assistant: str | None = None) -> None:
        page = opened(app, sessions, request)
        with frame("Documents", links(page.visitor), BRAND):
            async with told():
                await _content(page.api, assistant)


async def _content(api: Api, chosen: str | None) -> None:
    names = [one["name"] for one in (await api.get("/v1/assistants"))["data"]]
    if not names:
        with ui.card().classes("panel"):
            ui.label("There is no assistant yet that could hold documents.")
            ui.link("Make one", "/assistants")
        return
    assistant = names[0] if chosen is None else chosen
    if assistant not in names:
        ui.label(f"There is no assistant “{assistant}” for this key.").classes("plain")
        ui.link("See those that there are", "/assistants")
        return
    ui.select(
        names,
        value=assistant,
        label="Assistant",
        on_change=lambda event: ui.navigate.to(f"/documents?assistant={event.value}"),
    ).props("outlined dense").classes("w-full max-w-xs")
    await _Documents(api, assistant).show()


class _Documents:
    """The parts of the page, each of which shows what another one changed."""

    def __init__(self, api: Api, assistant: str) -> None:
        with ui.column().classes("w-full gap-4") as zone:
            with ui.card().classes("panel gap-3"):
                heading("Add documents")
                ui.label(
                    "PDF, Word, PowerPoint, Excel, HTML, CSV, Markdown and plain text. "
                    "They stay on this node."
                ).classes("muted")
                path = f"/v1/assistants/{assistant}/documents"
                Sender(path, zone=zone, on_sent=self._sent)
                self._reading = Reading(api, assistant, self._read)
            self._list = DocumentList(api, assistant, erase=self._erase, on_sent=self._sent)
            self._erasures = Erasures(api, assistant, self._erased)

    async def show(self) -> None:
        await self._list.show()
        await self._reading.look()
        await self._erasures.look()

    async def _sent(self) -> None:
        await self._reading.look()

    async def _read(self) -> None:
        await self._list.show()

    async def _erase(self, documents: Sequence[dict[str, Any]]) -> None:
        await self._erasures.erase(documents)

    async def _erased(self) -> None:
        await self._list.show()
        await self._reading.look()
