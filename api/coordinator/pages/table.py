"""A table that scrolls in itself where the window is too narrow for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nicegui import ui

from api.pages.parts import scrolled

Cell = str | Callable[[], None]
"""A text, or what makes the elements of the cell."""


class Table:
    """Rows under named columns; `name` says to a screen reader what it is a table of."""

    def __init__(self, name: str, columns: Sequence[str]) -> None:
        with scrolled(name), ui.element("table").classes("w-full text-left border-collapse"):
            with ui.element("thead"), ui.element("tr"):
                for column in columns:
                    with ui.element("th").classes("p-2 align-bottom").props("scope=col"):
                        ui.label(column)
            self._body = ui.element("tbody")

    def show(self, rows: Sequence[Sequence[Cell]]) -> None:
        """These rows instead of those before."""
        self._body.clear()
        with self._body:
            for row in rows:
                with ui.element("tr").classes("rule"):
                    for cell in row:
                        with ui.element("td").classes("p-2 align-top"):
                            if isinstance(cell, str):
                                # As wide as it is, up to a few words a line.
                                ui.label(cell).classes("plain w-max max-w-56")
                            else:
                                cell()
