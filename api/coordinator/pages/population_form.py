"""The dialog in which a population gets its name and its limit."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from api.pages.actions import answer_of, working
from api.pages.client import RefusedError
from api.pages.frame import Open, heading

UNITS = {"subject": "Subjects", "node": "Whole nodes"}


async def new_population(page: Open, unit: str, plan: dict[str, Any] | None) -> str | None:
    """Make a population; its name, None if it was given up.

    `plan` chooses the Renyi order at which the limit is kept; nothing else is made of it.
    """
    with ui.dialog() as dialog, ui.card().classes("w-full max-w-lg gap-3"):
        dialog.props('aria-label="New population"')
        heading("New population")
        ui.label(
            "All federations of a population share one budget. Its unit, its delta and the Rényi "
            "order at which it is kept are fixed for ever."
        )
        ui.label(
            "The order is chosen for the plan in the editor."
            if plan is not None
            else "The order is chosen for a plan without sampling. Fill in the plan first to have "
            "it chosen for that plan."
        ).classes("muted")
        name = ui.input("Name of the population")
        protects = ui.select(UNITS, value=unit, label="The limit protects")
        epsilon = ui.input("Epsilon of all federations", value="4.5")
        delta = ui.input("Delta of the limit", value="1e-5")
        for field in (name, protects, epsilon, delta):
            field.props("outlined dense").classes("w-full")

        async def make() -> None:
            new = {
                "name": str(name.value or "").strip(),
                "unit": protects.value,
                "epsilon": epsilon.value,
                "delta": delta.value,
            }
            if plan is not None:
                new["plan"] = plan | {"population": new["name"]}
            refusal.set_visibility(False)
            async with working(button):
                try:
                    made = await page.api.send("POST", "/v1/admin/populations", new)
                except RefusedError as error:
                    # Where the fields are, which stay as they were typed.
                    refusal.set_text(str(error))
                    refusal.set_visibility(True)
                else:
                    dialog.submit(made["population"])

        refusal = ui.label().classes("refusal plain").props("role=alert")
        refusal.set_visibility(False)
        with ui.row().classes("self-end"):
            ui.button("Cancel", on_click=lambda: dialog.submit(None)).props("flat no-caps")
            button = ui.button("Make it", on_click=make).props("unelevated no-caps")
    chosen: str | None = await answer_of(dialog)
    return chosen
