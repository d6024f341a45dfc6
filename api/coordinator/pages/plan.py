"""The page on which an admin plans a federation and sees, while typing, what it would mean."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from nicegui import ui

from api.coordinator.pages.links import BRAND, links
from api.coordinator.pages.plan_form import PlanForm
from api.coordinator.pages.plan_preview import PlanPreview
from api.coordinator.pages.population_form import new_population
from api.pages.actions import confirmed, working
from api.pages.client import RefusedError
from api.pages.frame import Open, frame, opened, told
from api.pages.sessions import Sessions


def define(app: FastAPI, sessions: Sessions) -> None:
    @ui.page("/plan")
    async def plan(request: Request) -> None:
        page = opened(app, sessions, request)
        with frame("New federation", links(page.visitor), BRAND):
            await ui.context.client.connected()
            async with told():
                populations = (await page.api.get("/v1/admin/populations"))["data"]
                federations = (await page.api.get("/v1/audit/federations"))["data"]
                names = [one["population"] for one in populations]
                await PlanEditor(page, names, _base_models(federations)).changed()


class PlanEditor:
    """A plan that is not stored before it is created."""

    def __init__(self, page: Open, populations: list[str], base_models: dict[str, str]) -> None:
        self._page = page
        self._asked = 0
        with ui.element("div").classes(
            "w-full grid grid-cols-1 lg:grid-cols-[1fr_24rem] gap-4 items-start"
        ):
            with ui.column().classes("panel gap-4"):
                with ui.row().classes("w-full items-center justify-between gap-2"):
                    ui.label("The budget of a population pays for it.").classes("muted")
                    ui.button("New population", on_click=self._new_population).props(
                        "outline no-caps dense"
                    ).classes("px-3")
                self._form = PlanForm(populations, base_models, self.changed)
                self._create = ui.button("Create federation", on_click=self._create_it)
                self._create.props("unelevated no-caps").classes("self-end")
            with ui.element("div").classes("w-full lg:sticky lg:top-16"):
                self._preview = PlanPreview()

    async def changed(self) -> None:
        """Show what the plan as it is now would mean."""
        self._asked += 1
        asked = self._asked
        self._create.disable()
        if missing := self._form.missing():
            self._preview.wait(missing)
            return
        async with told():
            try:
                found = await self._page.api.send(
                    "POST", "/v1/admin/federations/preview", self._form.request()
                )
            except RefusedError as error:
                if asked == self._asked:
                    self._preview.refuse(str(error))
            else:
                # An answer that a later change has overtaken is not shown.
                if asked == self._asked:
                    self._preview.show(found)
                    self._create.set_enabled(found["refusal"] is None)

    async def _create_it(self) -> None:
        request = self._form.request()
        question = f"Create {request['federation']}?"
        consequence = (
            f"The plan is signed, and its rounds are set aside in the budget of "
            f"{request['population']}. A plan is never changed; a new one is a new federation."
        )
        if await confirmed(question, consequence, "Create") is None:
            return
        async with working(self._create):
            await self._page.api.send("POST", "/v1/admin/federations", request)
            ui.navigate.to("/rounds")

    async def _new_population(self) -> None:
        missing = [label for label in self._form.missing() if label != "Population"]
        plan = None if missing else self._form.request()
        name = await new_population(self._page, self._form.unit, plan)
        if name is not None:
            options: Any = self._form.population.options
            self._form.population.set_options([*options, name], value=name)


def _base_models(federations: list[dict[str, Any]]) -> dict[str, str]:
    """A base model of each kind of adapter that was planned for before."""
    adapters = [federation["plan"]["adapter"] for federation in federations]
    return {adapter["kind"]: adapter["base_model"] for adapter in adapters}
