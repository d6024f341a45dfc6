"""What becomes of files that were sent: read one after the other, stored or refused."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from api.pages.client import Api
from api.pages.frame import told
from api.pages.parts import named
from api.pages.words import counted

LOOK_SECONDS = 1.5
DAY_SECONDS = 24 * 3_600
SHOWN = 12
"""Files, beside all that were refused."""

_ICONS = {
    "pending": "schedule", "running": "autorenew", "done": "check_circle",
    "duplicate": "content_copy", "failed": "error",
}  # fmt: skip
_OPEN = ("running", "pending")
_FIRST = ("failed", *_OPEN, "done", "duplicate")


class Reading:
    """The uploads of the last day, file by file; it looks again while any is open.

    `on_finished` is called when one of them has become so.
    """

    def __init__(
        self, api: Api, assistant: str, on_finished: Callable[[], Awaitable[None]]
    ) -> None:
        self._api = api
        self._path = f"/v1/assistants/{assistant}/jobs"
        self._on_finished = on_finished
        self._items: list[dict[str, Any]] = []
        self._is_asked = self._is_looking = False
        with ui.column().classes("w-full gap-2") as self._panel:
            self._summary = ui.label().props("role=status").classes("font-semibold")
            self._bar = ui.linear_progress(0, show_value=False).props("rounded")
            named(self._bar, "Files read")
            self._list = ui.element("ul").classes(
                "w-full list-none p-0 m-0 grid grid-cols-1 sm:grid-cols-2 gap-x-4"
            )
        self._panel.set_visibility(False)
        self._timer = ui.timer(LOOK_SECONDS, self.look, active=False, immediate=False)

    async def look(self) -> None:
        """Ask how far everything is, and go on asking while something is open.

        Many files that arrive together are looked at once, and once more for those after."""
        self._is_asked = True
        if self._is_looking:
            return
        self._is_looking = True
        try:
            while self._is_asked:
                self._is_asked = False
                await self._look()
        finally:
            self._is_looking = False

    async def _look(self) -> None:
        async with told():
            jobs = await self._recent()
            items = [item for job in jobs for item in job["items"]]
            if items == self._items:
                return
            was_finished = _finished(self._items)
            self._items = items
            self._show(sum(job["progress"] * len(job["items"]) for job in jobs))
            self._timer.active = _finished(items) < len(items)
            if _finished(items) != was_finished:
                await self._on_finished()

    async def _recent(self) -> list[dict[str, Any]]:
        since = time.time() - DAY_SECONDS
        found: list[dict[str, Any]] = []
        after = None
        while True:
            page = await self._api.get(self._path, kind="ingest", limit=200, after=after)
            found += [job for job in page["data"] if job["created_at"] >= since]
            after = page["next_after"]
            if after is None or page["data"][-1]["created_at"] < since:
                return found

    def _show(self, done: float) -> None:
        items = [item for item in self._items if item["name"]]
        self._panel.set_visibility(bool(items))
        is_open = len(items) - _finished(items)
        failed = sum(item["state"] == "failed" for item in items)
        self._bar.set_value(done / max(1, len(self._items)))
        self._bar.set_visibility(bool(is_open))
        told_of = counted(len(items), "file") + " sent in the last 24 hours: "
        told_of += f"{is_open:,} being read" if is_open else "all read"
        self._summary.set_text(told_of + (f", {failed:,} refused" if failed else ""))
        self._list.clear()
        with self._list:
            ordered = sorted(items, key=lambda one: _FIRST.index(one["state"]))
            shown = failed + SHOWN
            for item in ordered[:shown]:
                _show_item(item)
            if len(items) > shown:
                with ui.element("li").classes("muted"):
                    ui.label(f"and {counted(len(items) - shown, 'more file')}")


def _finished(items: list[dict[str, Any]]) -> int:
    return sum(item["state"] not in _OPEN for item in items)


def _show_item(item: dict[str, Any]) -> None:
    state = item["state"]
    with ui.element("li").classes("flex items-start gap-2 py-1 no-wrap"):
        colour = {"failed": "negative", "done": "positive"}.get(state, "")
        ui.icon(_ICONS[state], color=colour or None).props("aria-hidden=true").classes("mt-1")
        with ui.column().classes("gap-0 min-w-0"):
            ui.label(item["name"]).classes("plain")
            ui.label(_words(item)).classes("muted text-sm plain")


def _words(item: dict[str, Any]) -> str:
    match item["state"]:
        case "pending":
            return "waiting to be read"
        case "running" if item["passages"]:
            return f"being read, {item['passages_done'] / item['passages']:.0%}"
        case "running":
            return "being read"
        case "done":
            return f"stored, {counted(item['passages'] or 0, 'passage')}"
        case "duplicate":
            return "not stored again: the same content is here already"
    return f"refused: {item['error']['message']}"
