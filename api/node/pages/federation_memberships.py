"""What the node has joined: where it waits, takes part or pauses, and how it joins and leaves."""

from __future__ import annotations

from functools import partial
from typing import Any

from nicegui import ui

from api.node.pages.federation_peers import draw_peers
from api.node.pages.federation_words import fact
from api.node.pages.live import LivePage
from api.pages.frame import heading
from api.pages.words import moment
from federation.roster import fingerprint

PATH = "/v1/federation/memberships"
OPEN_STATES = ("pending", "active")
STATES = {
    "pending": ("hourglass_empty", "Waits for the admin's approval"),
    "active": ("check_circle", "Takes part"),
    "revoked": ("block", "Revoked by the coordinator"),
    "left": ("logout", "Left"),
}
FIRST_STEPS = (
    "Look at what this node agrees to, further below. Order and delta of the lifetime limit are "
    "fixed with the first coordinator that you join.",
    "Ask the admin of a coordinator for its address and a token. The token works once and carries "
    "the coordinator's key, so take it by a way that you trust.",
    "Join here, then read this node's fingerprint to the admin, who approves the node.",
)


class Memberships:
    """The part of the page about memberships and their peers."""

    def __init__(self, page: LivePage) -> None:
        self._page = page
        page.part("What this node has joined", self._read, self._draw)
        with ui.expansion("Join a coordinator", icon="add_link").classes(
            "panel !p-0"
        ) as self._join:
            _JoinForm(page)

    async def _read(self) -> list[dict[str, Any]]:
        """The memberships, each with its peers."""
        found: list[dict[str, Any]] = (await self._page.api.get(PATH))["data"]
        for one in found:
            one["peers"] = []
            if one["state"] in OPEN_STATES:
                one["peers"] = (await self._page.api.get(f"{PATH}/{one['id']}/peers"))["data"]
        return found

    def _draw(self, found: list[dict[str, Any]]) -> None:
        if not any(one["state"] in OPEN_STATES for one in found):
            self._draw_first_steps()
        for one in found:
            if one["state"] in OPEN_STATES:
                self._draw_membership(one)
        for one in found:
            if one["state"] not in OPEN_STATES:
                _draw_former(one)

    def _draw_first_steps(self) -> None:
        self._join.open()
        with ui.column().classes("panel gap-2"):
            ui.label("This node takes part in nothing: it learns alone.").classes("font-semibold")
            ui.label("To learn with others:")
            with ui.element("ol").classes("list-decimal pl-6 flex flex-col gap-1"):
                for step in FIRST_STEPS:
                    with ui.element("li"):
                        ui.label(step)

    def _draw_membership(self, one: dict[str, Any]) -> None:
        with ui.column().classes("panel gap-3"):
            heading(one["population"] or one["url"], 3).classes("plain")
            _draw_state(one)
            with ui.element("div").classes("w-full grid grid-cols-1 sm:grid-cols-3 gap-3"):
                fact("Coordinator", one["url"])
                fact("This node is called", one["name"])
                fact("Joined", moment(one["created_at"]))
            fact("The coordinator's key", fingerprint(one["coordinator"]), is_key=True)
            fact(
                "This node's fingerprint, for the admin and other owners to compare",
                one["fingerprint"],
                is_key=True,
            )
            draw_peers(self._page, one)
            with ui.row().classes("gap-2"):
                self._draw_buttons(one)

    def _draw_buttons(self, one: dict[str, Any]) -> None:
        label, icon = ("Go on", "play_arrow") if one["paused"] else ("Pause", "pause")
        pause = ui.button(label, icon=icon).props("outline no-caps")
        pause.on_click(partial(self._page.act, pause, partial(self._pause, one)))
        leave = ui.button("Leave", icon="logout").props("outline no-caps color=negative")
        leave.on_click(partial(self._page.act, leave, partial(self._leave, one)))

    async def _pause(self, one: dict[str, Any]) -> None:
        await self._page.api.send(
            "PUT", f"{PATH}/{one['id']}/paused", {"paused": not one["paused"]}
        )

    async def _leave(self, one: dict[str, Any]) -> None:
        agreed = await self._page.ask(
            f"Leave {one['population'] or one['url']}?",
            f"This node takes part in no further round at {one['url']}. What was spent stays "
            "spent, and coming back needs a new token.",
            "Leave",
        )
        if agreed:
            await self._page.api.send("DELETE", f"{PATH}/{one['id']}")


class _JoinForm:
    """Asks where to join. It is made once: what is typed outlives what happens around it."""

    def __init__(self, page: LivePage) -> None:
        self._page = page
        with ui.column().classes("w-full gap-2 px-4 pb-4"):
            self._url = ui.input("Coordinator's address").props("outlined dense maxlength=1000")
            self._token = ui.input("Token from its admin").props("outlined dense maxlength=200")
            self._name = ui.input("What others see this node called").props(
                "outlined dense maxlength=100"
            )
            for field in (self._url, self._token, self._name):
                field.classes("w-full").props("autocomplete=off spellcheck=false")
            button = ui.button("Join", icon="add_link").props("unelevated no-caps")
            button.on_click(partial(page.act, button, self._join))

    async def _join(self) -> None:
        new = {
            "url": str(self._url.value or "").strip(),
            "token": str(self._token.value or "").strip(),
            "name": str(self._name.value or "").strip(),
        }
        await self._page.api.send("POST", PATH, new)
        self._token.set_value("")
        ui.notify("Joined. Now read this node's fingerprint to the admin.", type="positive")


def _draw_state(one: dict[str, Any]) -> None:
    icon, words = STATES[one["state"]]
    if one["paused"]:
        icon, words = "pause_circle", f"{words}, paused: it enters no new round"
    with ui.row().classes("items-center gap-2"):
        ui.icon(icon, size="sm").props("aria-hidden=true")
        ui.label(words)
    if one["problem"]:
        with ui.row().classes("items-start no-wrap gap-2"):
            ui.icon("warning_amber", size="sm").props("aria-hidden=true")
            ui.label(f"Just now it cannot: {one['problem']}").classes("plain")


def _draw_former(one: dict[str, Any]) -> None:
    icon, words = STATES[one["state"]]
    with ui.row().classes("panel items-center no-wrap gap-2 !py-2"):
        ui.icon(icon, size="sm").props("aria-hidden=true")
        ui.label(
            f"{words}: {one['population'] or 'a population'} at {one['url']}, joined "
            f"{moment(one['created_at'])} as {one['name']}"
        ).classes("plain muted")
