"""The page on which an admin lets nodes in: tokens, participants and the roster."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from nicegui import ui

from api.coordinator.pages.links import BRAND, links
from api.pages.actions import answer_of, confirmed, working
from api.pages.frame import Open, frame, heading, opened, told
from api.pages.parts import copier
from api.pages.sessions import Sessions
from api.pages.words import ago, moment

Decide = Callable[[dict[str, Any], ui.button], Awaitable[None]]

LIFETIMES = {86_400: "1 day", 7 * 86_400: "1 week", 30 * 86_400: "30 days"}
STATES = {"pending": "Waits for approval", "approved": "Approved", "revoked": "Revoked"}
NOBODY = "Nobody yet. Make a token and hand it to a node's owner."
NO_POPULATION = "There is no population yet, and nodes are let into one."


def define(app: FastAPI, sessions: Sessions) -> None:
    @ui.page("/participants")
    async def participants(request: Request) -> None:
        page = opened(app, sessions, request)
        with frame("Participants", links(page.visitor), BRAND):
            await ui.context.client.connected()
            async with told():
                found = (await page.api.get("/v1/admin/populations"))["data"]
                names = [one["population"] for one in found]
                if names:
                    await Enrolment(page, names).refresh()
                else:
                    ui.label(NO_POPULATION)
                    ui.link("Make a population for a new federation", "/plan")


class Enrolment:
    """Who may take part in the rounds of one population, the first until another is chosen."""

    def __init__(self, page: Open, names: list[str]) -> None:
        self._page = page
        self._population = ui.select(
            names, value=names[0], label="Population", on_change=self.refresh
        ).classes("min-w-48")
        with ui.column().classes("panel gap-3"):
            self._token_form()
        with ui.column().classes("panel gap-3"):
            heading("Participants")
            self._participants = ui.column().classes("w-full gap-0")
        with ui.column().classes("panel gap-3"):
            heading("Roster")
            self._roster = ui.column().classes("w-full gap-2")
        with ui.column().classes("panel gap-3"):
            heading("Tokens")
            self._tokens = ui.column().classes("w-full gap-0")

    async def refresh(self) -> None:
        """Show the population as it is now."""
        population = self._population.value
        async with told():
            of_it = {"population": population}
            members = (await self._page.api.get("/v1/admin/participants", **of_it))["data"]
            tokens = (await self._page.api.get("/v1/admin/tokens", **of_it))["data"]
            roster = await self._page.api.get(f"/v1/admin/populations/{population}/roster")
            coordinator = await self._page.api.get("/v1/audit/coordinator")
            if population != self._population.value:
                return  # another one was chosen meanwhile, and is on its way
            for place in (self._participants, self._tokens, self._roster):
                place.clear()
            with self._participants:
                self._show_participants(members)
            with self._roster:
                _show_roster(roster, coordinator["fingerprint"])
            with self._tokens:
                _show_tokens(tokens, {member["id"]: member["name"] for member in members})

    def _token_form(self) -> None:
        heading("Let a node in")
        ui.label(
            "A token lets one node in, once. When its owner has joined, compare fingerprints, then "
            "approve."
        ).classes("muted")
        with ui.row().classes("w-full items-center gap-3"):
            self._label = ui.input("What the token is for").props("outlined dense maxlength=200")
            self._label.classes("grow min-w-48")
            self._lifetime = ui.select(LIFETIMES, value=7 * 86_400, label="Valid for")
            self._lifetime.props("outlined dense").classes("min-w-32")
            self._make = ui.button("Make a token", on_click=self._make_token)
            self._make.props("unelevated no-caps")

    async def _make_token(self) -> None:
        new = {
            "population": self._population.value,
            "label": str(self._label.value or "").strip(),
            "expires_in": self._lifetime.value,
        }
        async with working(self._make):
            made = await self._page.api.send("POST", "/v1/admin/tokens", new)
            self._label.set_value("")
            await _show_once(made)
            await self.refresh()

    def _show_participants(self, members: list[dict[str, Any]]) -> None:
        if not members:
            ui.label(NOBODY).classes("muted")
        # Whoever waits comes first, whoever is out last.
        order = list(STATES)
        with ui.element("ul").classes("w-full"):
            for member in sorted(members, key=lambda member: order.index(member["state"])):
                with ui.element("li").classes("py-3 rule"):
                    self._show_participant(member)

    def _show_participant(self, member: dict[str, Any]) -> None:
        state = member["state"]
        seen = "never" if member["last_seen_at"] is None else ago(member["last_seen_at"])
        with ui.row().classes("w-full items-center gap-x-3 gap-y-1"):
            with ui.column().classes("gap-0 grow basis-64 min-w-0"):
                ui.label(member["name"]).classes("plain font-semibold")
                times = f"enrolled {moment(member['created_at'])} · last seen {seen}"
                ui.label(f"{STATES[state]} · {times}").classes("muted")
                _show_fingerprint(member["fingerprint"])
            if state == "pending":
                self._action("Approve", member, self._approve)
            if state != "revoked":
                self._action("Revoke", member, self._revoke)

    def _action(self, label: str, member: dict[str, Any], do: Decide) -> None:
        button = ui.button(label).props("outline no-caps dense").classes("px-3")
        button.on_click(partial(do, member, button))
        # Not through the text form of `props`, which a name could break out of.
        button.props["aria-label"] = f"{label} {member['name']}"

    async def _approve(self, member: dict[str, Any], button: ui.button) -> None:
        question = f"Approve {member['name']}?"
        consequence = (
            "Only if the owner, asked over a channel that you trust, reads the same fingerprint:\n"
            f"{member['fingerprint']}"
        )
        if await confirmed(question, consequence, "Approve") is not None:
            await self._decide(member, "approve", button)

    async def _revoke(self, member: dict[str, Any], button: ui.button) -> None:
        question = f"Revoke {member['name']} for ever?"
        consequence = "It drops out of its round at once, and its identity is never accepted again."
        if await confirmed(question, consequence, "Revoke") is not None:
            await self._decide(member, "revoke", button)

    async def _decide(self, member: dict[str, Any], decision: str, button: ui.button) -> None:
        async with working(button):
            await self._page.api.send("POST", f"/v1/admin/participants/{member['id']}/{decision}")
            await self.refresh()


async def _show_once(made: dict[str, Any]) -> None:
    """A token, which nobody can see again once the dialog is closed."""
    with ui.dialog() as dialog, ui.card().classes("w-full max-w-xl gap-3"):
        dialog.props("persistent aria-label=Token")
        heading(f"Token for {made['population']}")
        ui.label(
            "It is shown this once. Hand it to the node's owner over a channel that you trust."
        )
        shown = ui.textarea("Token", value=made["token"]).classes("w-full")
        shown.props("outlined readonly autogrow input-class=font-mono")
        ui.label("The coordinator's fingerprint, which the node's owner compares:")
        _show_fingerprint(made["fingerprint"])
        with ui.row().classes("self-end"):
            copier(made["token"])
            ui.button("Done", on_click=lambda: dialog.submit(None)).props("unelevated no-caps")
    await answer_of(dialog)


def _show_roster(roster: dict[str, Any], coordinator: str) -> None:
    ui.label(
        f"Version {roster['version']}, signed by this coordinator. Owners compare these "
        "fingerprints among each other."
    ).classes("muted")
    entries = [("This coordinator", coordinator)]
    entries += [(member["name"], member["fingerprint"]) for member in roster["members"]]
    for name, fingerprint in entries:
        with ui.column().classes("w-full gap-0"):
            ui.label(name).classes("plain font-semibold")
            _show_fingerprint(fingerprint)
    if not roster["members"]:
        ui.label("Nobody is approved yet.").classes("muted")
    ui.label(f"Hash {roster['hash']}").classes("muted plain text-xs")


def _show_tokens(tokens: list[dict[str, Any]], names: dict[int, str]) -> None:
    if not tokens:
        ui.label("None was made yet.").classes("muted")
    with ui.element("ul").classes("w-full"):
        for token in tokens:
            with ui.element("li").classes("py-2 rule"):
                ui.label(token["label"] or "No label").classes("plain")
                ui.label(f"{_use(token, names)} · made {moment(token['created_at'])}").classes(
                    "muted plain"
                )


def _use(token: dict[str, Any], names: dict[int, str]) -> str:
    if token["participant_id"] is not None:
        return f"Used by {names[token['participant_id']]}"
    expires = "expired" if token["expires_at"] <= time.time() else "expires"
    return f"Not used, {expires} {ago(token['expires_at'])}"


def _show_fingerprint(fingerprint: str) -> None:
    ui.label(fingerprint).classes("plain font-mono text-sm")
