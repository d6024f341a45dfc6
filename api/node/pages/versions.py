"""Versions of personal adapters, each with its quality before and after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from api.pages.actions import working
from api.pages.frame import heading
from api.pages.parts import named
from api.pages.words import counted, moment
from storage.example_tables import PersonalKind, PersonalState

Serve = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Measure:
    """What quality means for an adapter; `top` is where its bar is full, None: at the larger."""

    title: str
    name: str
    direction: str
    top: float | None


_MEASURES = {
    PersonalKind.RETRIEVER: _Measure(
        "Retriever", "MRR@10 on held-back questions", "higher is better", 1.0
    ),
    PersonalKind.GENERATOR: _Measure(
        "Generator", "Mean loss on held-back answers", "lower is better", None
    ),
}
_STATES = {
    PersonalState.SERVED: ("check_circle", "in use"),
    PersonalState.KEPT: ("history", "kept"),
    PersonalState.WORSE: ("trending_down", "not clearly better than the shared one; not kept"),
}


def show_versions(versions: Sequence[dict[str, Any]], serve: Serve) -> None:
    """Those of each adapter, newest first; `serve` is called with one that is to be used again."""
    if not versions:
        ui.label(
            "There is no version yet. It takes five examples at least; headings of documents make "
            "some by themselves."
        ).classes("muted")
    for kind, measure in _MEASURES.items():
        own = [version for version in versions if version["kind"] == kind]
        if own:
            heading(measure.title, 3)
            ui.label(f"{measure.name}; {measure.direction}.").classes("muted text-sm")
            with ui.element("ul").classes("w-full list-none p-0 m-0"):
                for version in own:
                    _entry(version, measure, serve)


def _entry(version: dict[str, Any], measure: _Measure, serve: Serve) -> None:
    icon, state = _STATES[PersonalState(version["state"])]
    with (
        ui.element("li")
        .classes("flex flex-wrap items-center gap-x-4 gap-y-1 py-2")
        .style("border-top: 1px solid var(--line)")
    ):
        with ui.column().classes("gap-0 min-w-0").style("flex: 1 1 15rem"):
            with ui.row().classes("items-center gap-2 no-wrap"):
                ui.icon(icon).props("aria-hidden=true")
                ui.label(f"Version {version['id']}: {state}").classes("font-semibold")
            beside = version["shared"] or "the model as it is"
            ui.label(
                f"{moment(version['created_at'])} · {counted(version['examples'], 'example')} · "
                f"beside {beside}"
            ).classes("muted text-sm plain")
        _quality(version, measure)
        if version["state"] == PersonalState.KEPT:
            button = ui.button("Use again").props("outline dense no-caps").classes("px-2")
            named(button, f"Use again: version {version['id']}")

            async def chosen() -> None:
                async with working(button):
                    await serve(version)

            button.on_click(chosen)


def _quality(version: dict[str, Any], measure: _Measure) -> None:
    before, after = version["before"], version["after"]
    if before is None or after is None:
        ui.label("imported, not measured").classes("muted")
        return
    top = measure.top or max(before, after)
    with (
        ui.element("div")
        .classes("grid items-center gap-x-2")
        .style("grid-template-columns: auto 8rem auto")
    ):
        for label, value in (("before", before), ("after", after)):
            ui.label(label).classes("muted text-sm")
            with ui.element("div").classes("h-2 rounded").style("background: var(--soft)"):
                ui.element("div").classes("h-2 rounded bg-primary").style(
                    f"width: {100 * value / top:.1f}%"
                )
            ui.label(f"{value:.3f}")
