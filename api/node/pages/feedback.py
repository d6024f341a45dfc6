"""Feedback that waits for the owner, who makes an example of it or does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from api.pages.actions import working
from api.pages.client import Api
from api.pages.frame import heading
from api.pages.words import counted, moment

SHOWN_AT_ONCE = 10
_RATINGS = {
    1: ("thumb_up", "rated up"),
    -1: ("thumb_down", "rated down"),
    0: ("rule", "passages rated"),
}


class WaitingFeedback:
    """Newest first; `on_changed` is called when an example was made."""

    def __init__(self, api: Api, path: str, on_changed: Callable[[], Awaitable[None]]) -> None:
        self._api = api
        self._path = f"{path}/feedback"
        self._on_changed = on_changed
        self._wanted = SHOWN_AT_ONCE
        with ui.card().classes("panel gap-3"):
            heading("Waiting feedback")
            self._caption = ui.label().classes("muted").props("role=status")
            self._list = ui.element("ul").classes("w-full list-none p-0 m-0")
            self._more = ui.button("Show more", on_click=self._show_more)
            self._more.props("outline no-caps")

    async def show(self) -> None:
        found, more = await self._api.first(self._path, self._wanted, state="pending")
        self._more.set_visibility(more)
        number = f"{len(found)} or more" if more else counted(len(found), "answer")
        self._caption.set_text(
            f"{number} to look at. It teaches nothing before you approve it."
            if found
            else "Nothing waits. What people say of answers is listed here before anything "
            "learns from it."
        )
        self._list.clear()
        with self._list:
            for given in found:
                self._entry(given)

    async def _show_more(self) -> None:
        async with working(self._more):
            self._wanted += SHOWN_AT_ONCE
            await self.show()

    def _entry(self, given: dict[str, Any]) -> None:
        icon, rating = _RATINGS[given["rating"]]
        with (
            ui.element("li").classes("py-3").style("border-top: 1px solid var(--line)"),
            ui.column().classes("w-full gap-1"),
        ):
            ui.label(given["question"]).classes("font-semibold plain")
            _text("Answer", given["answer"])
            with ui.row().classes("items-center gap-2 no-wrap"):
                ui.icon(icon).props("aria-hidden=true")
                key = f"key {given['key_id']}" if given["key_id"] else "at the node itself"
                marked = [one["rating"] for one in given["passages"]]
                passages = (
                    f" · {marked.count(1)} of {counted(len(marked), 'passage')} good, "
                    f"{marked.count(-1)} bad"
                    if any(marked)
                    else ""
                )
                ui.label(f"{rating}{passages} · {moment(given['created_at'])} · {key}").classes(
                    "muted text-sm"
                )
            _text("Reason", given["reason"])
            _text("Corrected answer", given["corrected_answer"])
            with ui.row().classes("gap-2"):
                for word, done, look in (
                    ("Approve", "It is an example now.", "outline color=positive"),
                    ("Reject", "Nothing learns from it.", "flat color=negative"),
                ):
                    self._decision(given, word, done, look)

    def _decision(self, given: dict[str, Any], word: str, done: str, look: str) -> None:
        async def decide() -> None:
            async with working(button):
                path = f"{self._path}/{given['id']}/{word.lower()}"
                await self._api.send("POST", path)
                ui.notify(done, type="positive")
                await self.show()
                await self._on_changed()

        button = ui.button(word, on_click=decide).props(f"dense no-caps {look}").classes("px-2")


def _text(label: str, text: str | None) -> None:
    if text:
        ui.label(f"{label}: {text}").classes("plain")
