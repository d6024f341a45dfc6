"""The shared versions that the node tried: which it serves, and what each did to its questions."""

from __future__ import annotations

from functools import partial
from typing import Any

from nicegui import ui

from api.node.pages.live import LivePage
from api.pages.frame import heading
from api.pages.parts import named
from api.pages.words import counted, moment

PATH = "/v1/federation/versions"
STATES = {
    "served": ("check_circle", "In use"),
    "harmful": ("trending_down", "Not used: it did worse on your questions"),
    "untested": ("help_outline", "Not used: there were no questions to try it on"),
    "refused": ("block", "Not used: you refused it"),
    "retired": ("history", "Not used: another took its place, or it was rolled back"),
}
MEASURES = {
    "retriever": "MRR@10: how high the right document is found, 1 is best",
    "generator": "Mean loss on the answers that you gave: lower is better",
}


class Versions:
    """The part of the page about shared versions."""

    def __init__(self, page: LivePage) -> None:
        self._page = page
        page.part("Shared versions", self._read, self._draw)

    async def _read(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._page.api.get(PATH))["data"]
        return found

    def _draw(self, found: list[dict[str, Any]]) -> None:
        if not found:
            with ui.column().classes("panel"):
                ui.label(
                    "No shared version has come yet. The node fetches one when a coordinator "
                    "promotes it in a plan that the node accepts, and tries it on questions that "
                    "it held back from training."
                )
            return
        ui.label(
            "What you decide here changes this node's answers only. No coordinator is told."
        ).classes("muted")
        for one in sorted(found, key=lambda one: one["state"] != "served"):
            with ui.column().classes("panel gap-2"):
                self._draw_one(one)

    def _draw_one(self, one: dict[str, Any]) -> None:
        icon, words = STATES[one["state"]]
        if one["state"] == "retired" and one["before"] is None:
            icon, words = "hourglass_empty", "Not used: it has not been tried"
        heading(
            f"{one['federation']}, version {one['number']}, for the {one['adapter']}", 3
        ).classes("plain")
        with ui.row().classes("items-center no-wrap gap-2"):
            ui.icon(icon, size="sm").props("aria-hidden=true")
            ui.label(f"{words}, because you pinned it" if one["pinned"] else words)
        _draw_trial(one)
        with ui.row().classes("gap-2"):
            if not one["pinned"]:
                self._draw_choice(one, "pin", "Pin", "push_pin")
            if one["state"] != "refused":
                self._draw_choice(one, "refuse", "Refuse", "block")

    def _draw_choice(self, one: dict[str, Any], choice: str, label: str, icon: str) -> None:
        button = ui.button(label, icon=icon).props("outline no-caps")
        named(button, f"{label} version {one['number']} of {one['federation']}")
        button.on_click(partial(self._page.act, button, partial(self._choose, one, choice)))

    async def _choose(self, one: dict[str, Any], choice: str) -> None:
        name = f"version {one['number']} of {one['federation']}"
        if choice == "pin":
            question, agree = f"Pin {name}?", "Pin"
            consequence = (
                "It is used whatever its trial said, and no newer version takes its place until "
                "you refuse it."
            )
        else:
            question, agree = f"Refuse {name}?", "Refuse"
            consequence = "It is not used, now or later, unless you pin it."
        if await self._page.ask(question, consequence, agree):
            path = f"{PATH}/{one['plan_hash']}/{one['number']}"
            await self._page.api.send("PUT", path, {"choice": choice})


def _draw_trial(one: dict[str, Any]) -> None:
    before, after = one["before"], one["after"]
    if before is None or after is None:
        ui.label(f"It came on {moment(one['tried_at'])}.").classes("muted")
        return
    top = max(before, after, 1.0 if one["adapter"] == "retriever" else 0.0) or 1.0
    for name, value, colour in (("Without it", before, "grey-7"), ("With it", after, "primary")):
        with ui.row().classes("w-full items-center no-wrap gap-3"):
            ui.label(name).classes("w-24 shrink-0")
            bar = ui.linear_progress(value / top, size="10px", show_value=False, color=colour)
            bar.classes("grow").props("rounded")
            named(bar, f"{name}: {value:.3f}")
            ui.label(f"{value:.3f}").classes("font-mono w-14 shrink-0 text-right")
    ui.label(_verdict(one)).classes("font-semibold")
    ui.label(
        f"{MEASURES[one['adapter']]}. Tried on {counted(one['examples'], 'question')} of your own "
        f"that were held back, {moment(one['tried_at'])}."
    ).classes("muted")


def _verdict(one: dict[str, Any]) -> str:
    gain = one["after"] - one["before"]
    if one["adapter"] == "generator":
        gain = -gain
    if gain == 0:
        return "It changes nothing on your questions."
    return f"{'Better' if gain > 0 else 'Worse'} by {abs(gain):.3f} on your questions."
