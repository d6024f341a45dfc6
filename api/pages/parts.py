"""Small things that several pages show."""

from __future__ import annotations

import json

from nicegui import ui
from nicegui.events import GenericEventArguments


def named(element: ui.element, name: str) -> None:
    """What a screen reader calls it; `name` may be anything that somebody typed."""
    element.props["aria-label"] = name


def scrolled(name: str) -> ui.element:
    """A place for what is wide, which scrolls by itself, by keyboard too, where it does not fit."""
    place = ui.element("div").classes("scrolled").props("tabindex=0 role=region")
    named(place, name)
    return place


def copier(text: str) -> ui.button:
    """A button that puts `text` into the clipboard, and says whether the browser let it."""

    def copied(event: GenericEventArguments) -> None:
        if event.args:
            ui.notify("Copied.", type="positive")
        else:
            ui.notify("The browser did not let it be copied: select it and copy it.")

    button = ui.button("Copy", icon="content_copy").props("outline no-caps autofocus")
    return button.on(
        "click",
        copied,
        js_handler="async () => { try { await navigator.clipboard.writeText("
        f"{json.dumps(text)}); emit(true); }} catch {{ emit(false); }} }}",
    )
