"""An assistant's personal adapters: trained with progress, compared, gone back to, reset."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from api.node.pages.versions import show_versions
from api.pages.actions import confirmed, working
from api.pages.client import Api
from api.pages.frame import heading, told
from api.pages.parts import named
from api.pages.words import moment
from storage.example_tables import PersonalKind

LOOK_SECONDS = 1.5
_ALL = "all"
_WHAT = {
    _ALL: "All that can be trained",
    PersonalKind.RETRIEVER.value: "Retriever: which passages are found",
    PersonalKind.GENERATOR.value: "Generator: how answers are worded",
}
_SCHEDULES = {0: "Only when asked", 24: "Every day", 168: "Every week"}


class Personal:
    """The adapters, and the training under way or the one before."""

    def __init__(self, api: Api, path: str) -> None:
        self._api = api
        self._path = path
        with ui.card().classes("panel gap-3"):
            heading("Personal adapter")
            ui.label(
                "Learned from this assistant's examples, beside what the federation shares. It is "
                "used only if it does clearly better on examples that were held back, and stays on "
                "this node."
            ).classes("muted")
            with ui.row().classes("w-full items-center gap-3"):
                self._what = ui.select(_WHAT, value=_ALL, label="What to train")
                self._what.props("outlined dense").classes("w-72 max-w-full")
                self._train = ui.button("Train", icon="school", on_click=self._start)
                self._train.props("unelevated no-caps")
            with ui.column().classes("w-full gap-1") as self._progress:
                self._working = ui.label().props("role=status")
                self._bar = ui.linear_progress(0, show_value=False).props("rounded")
                named(self._bar, "Training")
            self._outcome = ui.column().classes("w-full gap-1").props("role=status")
            self._versions = ui.column().classes("w-full gap-2")
            with ui.row().classes("w-full items-center gap-3"):
                self._hours = 0
                self._schedule = ui.select(
                    _SCHEDULES, value=0, label="Train by itself",
                    on_change=lambda event: self._set_schedule(event.value),
                )  # fmt: skip
                self._schedule.props("outlined dense").classes("w-56")
                ui.space()
                self._reset = ui.button("Erase all versions", on_click=self._ask_reset)
                self._reset.props("outline no-caps color=negative")
        self._timer = ui.timer(LOOK_SECONDS, self._look, active=False, immediate=False)

    async def show(self) -> None:
        """Everything as it is now; while a training is under way it looks again."""
        jobs = (await self._api.get(f"{self._path}/jobs", kind="personal", limit=1))["data"]
        found = await self._api.get(f"{self._path}/personal")
        # A training may begin or end between the two.
        is_training = bool(found["jobs"]) or any(job["finished_at"] is None for job in jobs)
        self._timer.active = is_training
        self._train.set_enabled(not is_training)
        self._progress.set_visibility(False)
        for job in jobs:
            self._tell(job)
        self._versions.clear()
        with self._versions:
            show_versions(found["data"], self._serve)
        self._reset.set_visibility(bool(found["data"]) or is_training)
        self._show_schedule(found["schedule_hours"])

    async def _look(self) -> None:
        async with told():
            found = await self._api.get(f"{self._path}/personal")
            if not found["jobs"]:
                await self.show()
                return
            job = await self._api.get(f"/v1/jobs/{found['jobs'][0]}")
            self._tell(job)

    def _tell(self, job: dict[str, Any]) -> None:
        is_training = job["finished_at"] is None
        self._progress.set_visibility(is_training)
        self._outcome.clear()
        if is_training:
            done = f"{job['progress']:.0%}"
            what = " and ".join(item["name"] for item in job["items"])
            waits = job["state"] == "queued"
            self._working.set_text(
                f"The {what} waits to be trained" if waits else f"Training the {what}: {done}"
            )
            self._bar.set_value(job["progress"])
            return
        with self._outcome:
            ui.label(f"Last training, {moment(job['finished_at'])}:").classes("muted text-sm")
            for item in job["items"]:
                ui.label(_outcome(item, job["result"]["versions"])).classes("plain")

    def _show_schedule(self, hours: int | None) -> None:
        value = hours or 0
        options = dict(_SCHEDULES)
        options.setdefault(value, f"Every {value:,} hours")
        self._hours = value
        self._schedule.set_options(options, value=value)

    async def _start(self) -> None:
        async with working(self._train):
            wanted = None if self._what.value == _ALL else [self._what.value]
            await self._api.send("POST", f"{self._path}/personal", {"adapters": wanted})
        async with told():
            await self.show()

    async def _serve(self, version: dict[str, Any]) -> None:
        path = f"{self._path}/personal/versions/{version['id']}"
        await self._api.send("PUT", path, {"state": "served"})
        ui.notify(f"Version {version['id']} is used from now on.", type="positive")
        await self.show()

    async def _set_schedule(self, hours: int) -> None:
        if hours == self._hours:
            return  # it was read, not chosen
        async with told():
            path = f"{self._path}/personal/schedule"
            await self._api.send("PUT", path, {"hours": hours or None})
            self._hours = hours
            ui.notify("Saved.", type="positive")

    async def _ask_reset(self) -> None:
        agreed = await confirmed(
            "Erase all versions of the personal adapter?",
            "Trainings under way are given up, and the shared version serves alone. The examples "
            "stay, so that it can be trained again. This cannot be undone.",
            "Erase all versions",
        )
        if agreed is None:
            return
        async with working(self._reset):
            await self._api.send("DELETE", f"{self._path}/personal")
            ui.notify("All versions are erased.", type="positive")
            await self.show()


def _outcome(item: dict[str, Any], made: list[dict[str, Any]]) -> str:
    if item["state"] == "failed":
        return f"The {item['name']} was not trained: {item['error']['message']}."
    for version in made:
        if version["kind"] == item["name"]:
            served = version["state"] == "served"
            became = "is better and is used" if served else "is not clearly better and was not kept"
            return f"The {item['name']}, version {version['version']}, {became}."
    return f"The {item['name']} was trained."
