"""Small things that several pages show."""

from __future__ import annotations

from nicegui import ui


def named(element: ui.element, name: str) -> None:
    """What a screen reader calls it; `name` may be anything that somebody typed."""
    element.props["aria-label"] = name


def scrolled(name: str) -> ui.element:
    """A place for what is wide, which scrolls by itself, by keyboard too, where it does not fit."""
    place = ui.element("div").classes("scrolled").props("tabindex=0 role=region")
    named(place, name)
    return place
