"""The page of shared versions: which are there, and which one nodes are told to try."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from nicegui import ui

from api.coordinator.pages.links import BRAND, links
from api.coordinator.pages.table import Cell, Table
from api.pages.actions import confirmed, working
from api.pages.door import PREFIX
from api.pages.frame import Open, frame, heading, opened, told
from api.pages.sessions import Sessions
from api.pages.words import moment
from storage.coordinator_tables import Role

COLUMNS = ("Version", "Released", "Round", "Hash of the parameters")


def define(app: FastAPI, sessions: Sessions) -> None:
    @ui.page("/versions")
    async def versions(request: Request) -> None:
        page = opened(app, sessions, request)
        with frame("Versions", links(page.visitor), BRAND):
            ui.label(
                "Nodes are told to try the promoted version. Whether one serves it is its own "
                "decision and never reported. Training always goes on from the newest version."
            ).classes("muted")
            await ui.context.client.connected()
            async with told():
                found = (await page.api.get("/v1/audit/federations"))["data"]
                if not found:
                    ui.label("There is no federation yet, and so no version.")
                for federation in found:
                    await FederationVersions(page, federation["name"]).refresh()


class FederationVersions:
    """The versions of one federation, the newest first."""

    def __init__(self, page: Open, name: str) -> None:
        self._page = page
        self._name = name
        self._is_admin = page.visitor.role == Role.ADMIN
        with ui.element("section").classes("panel flex flex-col gap-3"):
            with ui.row().classes("w-full items-center gap-x-3 gap-y-1"):
                heading(name).classes("plain")
                self._promoted = ui.label().props("role=status")
                ui.space()
                if self._is_admin:
                    self._back = ui.button("Roll back", on_click=self._roll_back)
                    self._back.props("outline no-caps dense").classes("px-3")
                    self._back.props["aria-label"] = f"Roll back {name}"
            columns = (COLUMNS[0], "Actions", *COLUMNS[1:]) if self._is_admin else COLUMNS
            self._table = Table(f"Versions of {name}", columns)

    async def refresh(self) -> None:
        path = f"/v1/audit/federations/{self._name}/versions"
        found = (await self._page.api.get(path))["data"]
        promoted = next(one["number"] for one in found if one["promoted"])
        self._promoted.set_text(f"Version {promoted} is promoted.")
        if self._is_admin:
            # There is nothing before version 0.
            self._back.set_visibility(promoted > 0)
        self._table.show([self._row(one) for one in reversed(found)])

    def _row(self, version: dict[str, Any]) -> tuple[Cell, ...]:
        number = str(version["number"])
        row: tuple[Cell, ...] = (
            moment(version["created_at"]),
            _origin(version),
            version["parameters_hash"],
        )
        name = f"{number} (promoted)" if version["promoted"] else number
        return (
            (name, partial(self._show_actions, version), *row) if self._is_admin else (name, *row)
        )

    def _show_actions(self, version: dict[str, Any]) -> None:
        number = version["number"]
        path = f"/v1/admin/federations/{self._name}/versions/{number}"
        with ui.row().classes("gap-2 no-wrap"):
            # The browser fetches it itself, with its session.
            download = ui.button("Download").props(
                f'tag=a href="{PREFIX}/api{path}/parameters" download outline no-caps dense'
            )
            download.classes("px-3").props["aria-label"] = f"Download {self._name} {number}"
            if not version["promoted"]:
                promote = ui.button("Promote").props("outline no-caps dense").classes("px-3")
                promote.props["aria-label"] = f"Promote {self._name} {number}"
                promote.on_click(partial(self._promote, number, promote))

    async def _promote(self, number: int, button: ui.button) -> None:
        question = f"Promote version {number} of {self._name}?"
        consequence = "Nodes are told to try it instead of the version that is promoted now."
        if await confirmed(question, consequence, "Promote") is not None:
            await self._tell(f"versions/{number}/promote", button)

    async def _roll_back(self) -> None:
        question = f"Roll {self._name} back by one version?"
        consequence = "Nodes are told to try the version before the promoted one."
        if await confirmed(question, consequence, "Roll back") is not None:
            await self._tell("roll-back", self._back)

    async def _tell(self, action: str, button: ui.button) -> None:
        async with working(button):
            await self._page.api.send("POST", f"/v1/admin/federations/{self._name}/{action}")
            await self.refresh()


def _origin(version: dict[str, Any]) -> str:
    """The round that made a version, as the ledger has it."""
    record = version["ledger_record"]
    if record is None:
        return "Where training began"
    return f"{version['round_id']}, entry {record['record']['sequence'] + 1} of the ledger"
