"""One federation on the page of rounds: its state, what may be done to it, its rounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from nicegui import ui

from api.coordinator.pages.table import Table
from api.pages.actions import confirmed, working
from api.pages.frame import Open, heading
from api.pages.words import ago, moment
from federation.invitation import Stage
from storage.coordinator_tables import FederationState, Role

OVER = (FederationState.STOPPED, FederationState.FINISHED)
STATES = {
    "created": "Not started",
    "running": "Running",
    "paused": "Paused",
    "stopped": "Stopped",
    "finished": "Finished",
}
PHASES = {
    "enlisting": "Enlisting",
    "keys": "Keys",
    "shares": "Shares",
    "masked": "Training and masked vectors",
    "survivors": "Survivors",
    "unmasking": "Unmasking",
    "released": "Released",
    "failed": "Failed",
}
COLUMNS = ("Round", "Phase", "Joined", "Dropped", "Reason", "Began", "Ended or due")


@dataclass(frozen=True, slots=True)
class _Action:
    """What an admin may do to a federation; one with a `consequence` is asked about first.

    Attributes:
        takes_reason: whether nodes and auditors may read why.
    """

    name: str
    label: str
    question: str = ""
    consequence: str = ""
    takes_reason: bool = False


_START = _Action(
    "start", "Start", "Start {}?", "Rounds open from now on, as soon as enough nodes are approved."
)
_PAUSE = _Action(
    "pause", "Pause", "Pause {}?", "No more rounds open; one that has begun goes on.",
    takes_reason=True,
)  # fmt: skip
_RESUME = _Action("resume", "Resume")
_STOP = _Action(
    "stop", "Stop", "Stop {} for ever?",
    "A round that has begun fails. What was set aside in the budget and not spent is given back.",
    takes_reason=True,
)  # fmt: skip
_ACTIONS = {
    "created": (_START, _STOP),
    "running": (_PAUSE, _STOP),
    "paused": (_RESUME, _STOP),
    "stopped": (),
    "finished": (),
}


class FederationPanel:
    """`changed` is called after something was done to the federation.

    Attributes:
        is_settled: whether nothing about the federation can change any more.
    """

    def __init__(self, page: Open, name: str, changed: Callable[[], Awaitable[None]]) -> None:
        self.is_settled = False
        self._page = page
        self._name = name
        self._changed = changed
        self._shown: tuple[Any, ...] = ()
        self._rows: list[tuple[str, ...]] = []
        with ui.element("section").classes("panel flex flex-col gap-3"):
            with ui.row().classes("w-full items-center gap-x-3 gap-y-1"):
                heading(name).classes("plain")
                self._state = ui.label().classes("font-semibold")
                ui.space()
                self._buttons = ui.row().classes("gap-2")
            self._about = ui.label().classes("muted plain")
            self._reason = ui.label().classes("plain")
            self._phases = ui.element("ol").classes("flex flex-wrap gap-x-4 gap-y-1")
            self._phases.props["aria-label"] = f"Phases of the round of {name}"
            self._status = ui.label().classes("plain").props("role=status")
            with ui.element("div").classes("w-full") as self._rounds:
                self._table = Table(f"Rounds of {name}", COLUMNS)
            self._rounds.set_visibility(False)

    def show(self, federation: dict[str, Any], rounds: list[dict[str, Any]]) -> None:
        """The federation with its newest rounds, of which the first may be under way."""
        running = next((one for one in rounds if one["ended_at"] is None), None)
        state, total = federation["state"], federation["plan"]["privacy"]["rounds"]
        self.is_settled = state in OVER and running is None
        # What has the focus must not be made anew without need.
        shown = (state, federation["reason"], running and running["stage"])
        if shown != self._shown:
            self._shown = shown
            self._show_state(federation)
            self._show_phases(running)
        status = _status(federation, running, bool(rounds))
        self._status.set_text(status)
        self._status.set_visibility(bool(status))
        rows = [_row(one, total) for one in rounds]
        if rows != self._rows:
            self._rows = rows
            self._table.show(rows)
            self._rounds.set_visibility(bool(rows))

    def _show_state(self, federation: dict[str, Any]) -> None:
        state, privacy = federation["state"], federation["plan"]["privacy"]
        self._state.set_text(STATES[state])
        self._about.set_text(
            f"Population {federation['population']} · mode {privacy['mode']} · "
            f"{privacy['rounds']} rounds of {privacy['cohort']} nodes, of whom "
            f"{privacy['min_survivors']} must stay · plan {federation['plan_hash'][:16]}"
        )
        self._reason.set_text(f"Reason: {federation['reason']}")
        self._reason.set_visibility(bool(federation["reason"]))
        self._buttons.clear()
        if self._page.visitor.role == Role.ADMIN:
            with self._buttons:
                for action in _ACTIONS[state]:
                    button = ui.button(action.label).props("outline no-caps dense").classes("px-3")
                    button.props["aria-label"] = f"{action.label} {self._name}"
                    button.on_click(partial(self._act, action, button))

    async def _act(self, action: _Action, button: ui.button) -> None:
        body = None
        if action.consequence:
            label = "Reason (nodes and auditors may read it)" if action.takes_reason else ""
            question = action.question.format(self._name)
            reason = await confirmed(question, action.consequence, action.label, reason=label)
            if reason is None:
                return
            body = {"reason": reason} if action.takes_reason else None
        path = f"/v1/admin/federations/{self._name}/{action.name}"
        async with working(button):
            await self._page.api.send("POST", path, body)
            await self._changed()

    def _show_phases(self, running: dict[str, Any] | None) -> None:
        self._phases.clear()
        self._phases.set_visibility(running is not None)
        if running is None:
            return
        stages = [stage for stage in PHASES if stage != Stage.FAILED]
        now = stages.index(running["stage"])
        with self._phases:
            for place, stage in enumerate(stages):
                # Not by colour alone: what is over is ticked, what is under way is pointed at.
                mark = "✓ " if place < now else "▸ " if place == now else ""
                with ui.element("li") as phase:
                    ui.label(f"{mark}{PHASES[stage]}").classes(
                        "font-semibold" if place == now else "muted"
                    )
                if place == now:
                    phase.props("aria-current=step")


def _status(federation: dict[str, Any], running: dict[str, Any] | None, has_rounds: bool) -> str:
    privacy = federation["plan"]["privacy"]
    if running is not None:
        joined = "" if running["joined"] is None else f"{running['joined']} nodes joined. "
        due = f"{moment(running['deadline'])}, {ago(running['deadline'])}"
        of_all = f"{running['slot'] + 1} of {privacy['rounds']}"
        return f"Round {of_all} is under way. {joined}This phase ends at the latest {due}."
    if federation["state"] == "running":
        return f"The next round opens once {privacy['min_survivors']} nodes are approved and due."
    return "" if has_rounds else "No round was opened."


def _row(one: dict[str, Any], total: int) -> tuple[str, ...]:
    dropped = None if one["survivors"] is None else one["joined"] - one["survivors"]
    over = one["ended_at"]
    return (
        f"{one['slot'] + 1} of {total}",
        PHASES[one["stage"]],
        _count(one["joined"]),
        _count(dropped),
        one["reason"] or "–",
        moment(one["started_at"]),
        f"due {moment(one['deadline'])}" if over is None else moment(over),
    )


def _count(number: int | None) -> str:
    """A number that is not known yet is a dash."""
    return "–" if number is None else str(number)
