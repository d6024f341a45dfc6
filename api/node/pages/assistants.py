"""The pages of all assistants with the node's keys, and of one assistant."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from nicegui import ui

from api.node.pages.assistant import show_assistant
from api.node.pages.keys import Keys
from api.node.pages.links import BRAND, links
from api.pages.actions import working
from api.pages.client import Api
from api.pages.frame import BUILD_SECONDS, frame, heading, opened, told
from api.pages.parts import named
from api.pages.sessions import Sessions
from api.pages.words import counted


def define(app: FastAPI, sessions: Sessions) -> None:
    @ui.page("/assistants", response_timeout=BUILD_SECONDS)
    async def assistants(request: Request) -> None:
        page = opened(app, sessions, request)
        with frame("Assistants", links(page.visitor), BRAND):
            async with told():
                await _Assistants(page.api).show()
                await Keys(page.api, page.visitor.key_id).show()

    @ui.page("/assistants/{name}", response_timeout=BUILD_SECONDS)
    async def assistant(request: Request, name: str) -> None:
        page = opened(app, sessions, request)
        with frame("Assistants", links(page.visitor), BRAND):
            async with told():
                await show_assistant(page.api, name)


class _Assistants:
    """Those that the key may see, and a form for a new one."""

    def __init__(self, api: Api) -> None:
        self._api = api
        with ui.card().classes("panel gap-3"):
            heading("All assistants")
            ui.label(
                "Each has documents, an index, a personal adapter and keys of its own. "
                "Its name is the model that clients ask for."
            ).classes("muted")
            self._list = ui.element("ul").classes("w-full list-none p-0 m-0")
            with ui.row().classes("w-full items-start gap-3"):
                self._name = ui.input("Name of a new assistant").props("outlined dense")
                self._name.props('maxlength=63 hint="a-z, 0-9, dot, dash, underscore"')
                self._description = ui.input("What it is for").props(
                    "outlined dense maxlength=1000"
                )
                self._description.classes("grow")
                self._create = ui.button("Create", on_click=self._new).props("unelevated no-caps")

    async def show(self) -> None:
        found = (await self._api.get("/v1/assistants"))["data"]
        self._list.clear()
        with self._list:
            if not found:
                with ui.element("li").classes("muted"):
                    ui.label("There is none yet. Create one below.")
            for assistant in found:
                _entry(assistant)

    async def _new(self) -> None:
        async with working(self._create):
            body = {"name": self._name.value, "description": self._description.value}
            made = await self._api.send("POST", "/v1/assistants", body)
            self._name.set_value("")
            self._description.set_value("")
            await self.show()
            ui.notify(f"{made['name']} is ready for documents.", type="positive")


def _entry(assistant: dict[str, Any]) -> None:
    name = assistant["name"]
    with (
        ui.element("li")
        .classes("flex flex-wrap items-center gap-x-4 py-2")
        .style("border-top: 1px solid var(--line)")
    ):
        with ui.column().classes("gap-0 min-w-0").style("flex: 1 1 14rem"):
            ui.link(name, f"/assistants/{name}").classes("font-semibold")
            if assistant["description"]:
                ui.label(assistant["description"]).classes("plain")
            ui.label(
                f"{counted(assistant['documents'], 'document')}, "
                f"{counted(assistant['passages'], 'passage')}"
            ).classes("muted text-sm")
        documents = ui.link("Documents", f"/documents?assistant={name}")
        named(documents, f"Documents of {name}")
