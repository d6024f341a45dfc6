"""The page of federations and their rounds as they happen."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from nicegui import ui

from api.coordinator.pages.federation_panel import OVER, FederationPanel
from api.coordinator.pages.links import BRAND, links
from api.pages.client import RefusedError
from api.pages.frame import Open, frame, opened, told
from api.pages.sessions import Sessions
from storage.coordinator_tables import Role

SECONDS = 2.0
"""Between two looks at the rounds."""
NEWEST = 50
"""Rounds of a federation that are shown."""


def define(app: FastAPI, sessions: Sessions) -> None:
    @ui.page("/rounds")
    async def rounds(request: Request) -> None:
        page = opened(app, sessions, request)
        with frame("Rounds", links(page.visitor), BRAND):
            await ui.context.client.connected()
            view = Federations(page)
            await view.look()
            ui.timer(SECONDS, view.look, immediate=False)


class Federations:
    """A panel for each federation, brought up to date by `look`."""

    def __init__(self, page: Open) -> None:
        self._page = page
        self._panels: dict[str, FederationPanel] = {}
        self._problem = ui.label().props("role=status").classes("plain")
        self._problem.set_visibility(False)
        self._empty = ui.column().classes("gap-1")
        with self._empty:
            ui.label("There is no federation yet.")
            if page.visitor.role == Role.ADMIN:
                ui.link("Plan one", "/plan")
        self._empty.set_visibility(False)
        self._place = ui.column().classes("w-full gap-4")

    async def look(self) -> None:
        """Show what has changed. Who cannot be told now is told what is on the page is old."""
        problem = ""
        async with told():
            try:
                await self._refresh()
            except RefusedError as error:
                problem = f"This is not up to date: {error}."
        self._problem.set_text(problem)
        self._problem.set_visibility(bool(problem))

    async def _refresh(self) -> None:
        found = (await self._page.api.get("/v1/audit/federations"))["data"]
        self._empty.set_visibility(not found)
        for federation in sorted(found, key=_busiest_first):
            panel = self._panels.get(federation["name"])
            if panel is None:
                with self._place:
                    panel = FederationPanel(self._page, federation["name"], self.look)
                self._panels[federation["name"]] = panel
            elif panel.is_settled:
                continue
            path = f"/v1/audit/federations/{federation['name']}/rounds"
            newest = (await self._page.api.get(path, limit=NEWEST))["data"]
            panel.show(federation, newest)


def _busiest_first(federation: dict[str, Any]) -> tuple[bool, str]:
    return federation["state"] in OVER, federation["name"]
