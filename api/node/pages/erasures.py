"""Documents erased, and the receipts that say what was removed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from nicegui import ui

from api.pages.actions import confirmed
from api.pages.client import Api
from api.pages.frame import heading, told
from api.pages.parts import named
from api.pages.words import counted, moment

LOOK_SECONDS = 2.0
SHOWN = 20


class Erasures:
    """Erases documents, and lists the receipts of an assistant's newest erasures."""

    def __init__(self, api: Api, assistant: str, on_erased: Callable[[], Awaitable[None]]) -> None:
        self._api = api
        self._path = f"/v1/assistants/{assistant}"
        self._on_erased = on_erased
        with ui.card().classes("panel") as self._panel:
            heading("Receipts of erasures")
            self._list = ui.element("ul").classes("w-full list-none p-0 m-0")
        self._timer = ui.timer(LOOK_SECONDS, self.look, active=False, immediate=False)

    async def erase(self, documents: Sequence[dict[str, Any]]) -> None:
        """Ask first, erase, and show the receipt."""
        (first, *others) = [document["name"] for document in documents]
        what = f"“{first}”" + (f" and {counted(len(others), 'other document')}" if others else "")
        # On the page itself: the row whose button asks is gone once its document is.
        with ui.context.client.content:
            agreed = await confirmed(
                f"Erase {what}?",
                "The text, its vectors and index entries, and what was learned from it on this "
                "node are removed from every file. This cannot be undone. You get a receipt.",
                "Erase",
            )
            if agreed is None:
                return
            async with told():
                ids = [document["id"] for document in documents]
                job = await self._api.send("POST", f"{self._path}/documents/erase", {"ids": ids})
                await self._on_erased()
                await self.look()
                if job["finished_at"] is None:
                    ui.notify("The erasure goes on; its receipt will be listed below.")
                else:
                    show_receipt(job)

    async def look(self) -> None:
        """List the receipts, and look again while an erasure is under way."""
        async with told():
            page = await self._api.get(f"{self._path}/jobs", kind="erase", limit=SHOWN)
            jobs = page["data"]
            self._timer.active = any(job["finished_at"] is None for job in jobs)
            self._panel.set_visibility(bool(jobs))
            self._list.clear()
            with self._list:
                for job in jobs:
                    _entry(job)


def _entry(job: dict[str, Any]) -> None:
    number = counted(len(job["items"]), "document")
    with ui.element("li").classes("flex flex-wrap items-center gap-x-3 py-1"):
        if job["finished_at"] is None:
            ui.label(f"{number}, requested {moment(job['created_at'])}: being erased")
            return
        when = moment(job["finished_at"])
        ui.label(f"{number}, {when}").classes("grow")
        shown = ui.button("Show", on_click=lambda: show_receipt(job)).props("flat dense no-caps")
        named(shown, f"Show the receipt of {when}")
        _download(job)


def _download(job: dict[str, Any]) -> None:
    receipt = job["result"]["receipt"]
    link = ui.link("Download", f"/api/v1/jobs/{job['id']}")
    link.props["download"] = f"{receipt['id']}.json"


def show_receipt(job: dict[str, Any]) -> None:
    """Open a dialog with the receipt of a finished erasure."""
    receipt = job["result"]["receipt"]
    with ui.dialog() as dialog, ui.card().classes("w-full max-w-2xl"):
        named(dialog, "Receipt of an erasure")
        heading("Receipt of an erasure")
        ui.label(receipt["id"]).classes("muted plain")
        ui.label(
            f"Requested {moment(receipt['requested_at'])}, "
            f"completed {moment(receipt['completed_at'])}."
        )
        _points(
            "Documents",
            [
                f"{one['id']}: {counted(one['passages'] or 0, 'passage')}, "
                f"{counted(one['vectors'] or 0, 'vector')}"
                for one in receipt["documents"]
            ],
        )
        _points("Removed from", receipt["removed_from"])
        _points(
            "Personal adapters out of service",
            [
                f"{one['kind']}, version {one['version']}, since {moment(one['off_at'])}"
                for one in receipt["personal"]
            ],
        )
        _points("Not covered", [*receipt["not_covered"], receipt["adapters"]])
        with ui.row().classes("w-full items-center justify-end gap-4"):
            _download(job)
            ui.button("Close", on_click=dialog.close).props("unelevated no-caps autofocus")
    dialog.on_value_change(lambda event: None if event.value else dialog.delete())
    dialog.open()


def _points(title: str, points: Sequence[str]) -> None:
    if not points:
        return
    heading(title, 3)
    with ui.element("ul").classes("list-disc pl-6 m-0"):
        for point in points:
            with ui.element("li"):
                ui.label(point).classes("plain")
