"""A page whose parts follow what the API says, and whose buttons tell what refuses them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import ui

from api.pages.client import Api, RefusedError
from api.pages.frame import heading, told
from api.pages.parts import named

REFRESH_SECONDS = 5.0

Read = Callable[[], Awaitable[Any]]
Draw = Callable[[Any], None]


class LivePage:
    """The parts of one open page, and what its buttons do."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._parts: list[_Part] = []
        # A handler's own place may be drawn again while it waits; the page itself stays.
        self._root = ui.context.client.content

    def part(self, title: str, read: Read, draw: Draw) -> None:
        """A section that shows what `read` returns; `draw` is called when that has changed."""
        self._parts.append(_Part(title, read, draw))

    def follow(self) -> None:
        """Keep the parts up to date while the page is open; the first look is at once."""
        ui.timer(REFRESH_SECONDS, self.refresh)

    async def refresh(self) -> None:
        async with told():
            for part in self._parts:
                await part.refresh()

    async def act(self, button: ui.button, work: Callable[[], Awaitable[None]]) -> None:
        """Do what a button is for, once at a time, and show what became of it."""
        with self._root:
            button.disable()
            try:
                async with told():
                    await work()
                await self.refresh()
            finally:
                if not button.is_deleted:
                    button.enable()

    async def ask(self, question: str, consequence: str, agree: str) -> bool:
        """Whether the visitor agrees to what has consequences."""
        with self.dialog(question, "max-w-lg") as dialog:
            ui.label(consequence).classes("plain")
            answers(dialog, agree)
        return await dialog is True

    @contextmanager
    def dialog(self, title: str, width: str) -> Iterator[ui.dialog]:
        """A dialog with what is made in the block; it is forgotten once it is hidden."""
        with self._root, ui.dialog() as dialog, ui.card().classes(f"panel {width} gap-3"):
            named(dialog, title)
            dialog.on("hide", dialog.delete)
            heading(title).classes("plain")
            yield dialog


def answers(dialog: ui.dialog, agree: str) -> None:
    """The buttons below a question: awaiting the dialog gives True for the one that agrees."""
    with ui.row().classes("w-full justify-end gap-2"):
        ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
        ui.button(agree, on_click=lambda: dialog.submit(True)).props("unelevated no-caps")


class _Part:
    def __init__(self, title: str, read: Read, draw: Draw) -> None:
        self._read = read
        self._draw = draw
        self._shown: Any = None
        with ui.element("section").classes("w-full flex flex-col gap-3") as section:
            named(section, title)
            heading(title)
            self._content = ui.column().classes("w-full gap-3")
            with self._content:
                ui.spinner().props('aria-label="Loading"')

    async def refresh(self) -> None:
        """Draw it again if it has changed: what somebody reads, or has unfolded, stays."""
        try:
            found = await self._read()
        except RefusedError as error:
            found = error
        if _same(found, self._shown):
            return
        self._shown = found
        self._content.clear()
        with self._content:
            if isinstance(found, RefusedError):
                refused(found)
            else:
                self._draw(found)


def refused(error: RefusedError) -> None:
    """Says why there is nothing to show."""
    message = str(error)
    with ui.row().classes("panel items-start no-wrap gap-3").props("role=alert"):
        ui.icon("error_outline", size="sm").props("aria-hidden=true")
        ui.label(f"{message[:1].upper()}{message[1:]}.").classes("plain")


def _same(found: Any, shown: Any) -> bool:
    if isinstance(found, RefusedError) and isinstance(shown, RefusedError):
        return str(found) == str(shown)
    return bool(found == shown)
