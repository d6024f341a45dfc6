"""The page of a population's ledger: its records as a table, and whether the chain holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from nicegui import events, ui

from api.coordinator.pages.links import BRAND, links
from api.coordinator.pages.shown import later, meaning_of_budget
from api.coordinator.pages.verification import CHECKED, show_verification
from api.pages.client import Api
from api.pages.frame import frame, heading, opened, told
from api.pages.parts import scrolled
from api.pages.sessions import Sessions
from api.pages.words import number

ROWS = 25
_COLUMNS = [
    {"name": "number", "label": "Record", "field": "number", "align": "left"},
    {
        "name": "time",
        "label": "Time (UTC)",
        "field": "time",
        "align": "left",
        "style": "min-width: 6.5rem",
    },
    {
        "name": "event",
        "label": "What it records",
        "field": "event",
        "align": "left",
        "style": "min-width: 15rem; overflow-wrap: anywhere",
    },
    {"name": "sum", "label": "In the sum", "field": "sum", "align": "left"},
    {"name": "spent", "label": "Epsilon spent", "field": "spent", "align": "right"},
    {"name": "limit", "label": "Limit", "field": "limit", "align": "right"},
    {"name": "check", "label": "Check", "field": "check", "align": "left"},
    {"name": "show", "label": "Whole", "field": "number", "align": "left"},
]
_SHOW = """<q-td :props="props"><q-btn v-if="props.row.is_record" flat dense no-caps label="Show"
  :aria-label="'Show record ' + props.row.number"
  @click="$parent.$emit('show', props.row.number)"></q-btn></q-td>"""
_DIVERGENCES = ("orders", "loss", "total")


def define(app: FastAPI, sessions: Sessions) -> None:
    @ui.page("/ledger")
    async def ledger(request: Request, population: str = "") -> None:
        page = opened(app, sessions, request)
        with frame("Ledger", links(page.visitor), BRAND):
            later("The ledger", partial(_show, page.api, population))


async def _show(api: Api, chosen: str) -> None:
    names = [budget["population"] for budget in (await api.get("/v1/audit/budgets"))["data"]]
    if not names:
        with ui.column().classes("panel"):
            heading("There is no ledger yet")
            ui.label("Each population has one, from the moment an admin makes it.").classes("muted")
        return
    chosen = chosen or names[0]
    _choice(names, chosen)
    if chosen in names:
        await _Ledger(api, chosen).show()
    else:
        with ui.column().classes("panel"):
            ui.label(f"There is no population {chosen!r}.").classes("plain")


def _choice(names: Sequence[str], chosen: str) -> None:
    with ui.element("nav").props("aria-label=Populations").classes("flex flex-wrap gap-2"):
        for name in names:
            link = ui.link(name, f"/ledger?population={name}").classes("px-3 py-1 rounded")
            link.style("border: 1px solid var(--line)")
            if name == chosen:
                link.props("aria-current=page").classes("font-bold").style(
                    "background: var(--soft)"
                )


class _Ledger:
    """The ledger of one population on a page."""

    def __init__(self, api: Api, population: str) -> None:
        self._api = api
        self._population = population
        self._path = f"/v1/audit/ledgers/{population}"

    async def show(self) -> None:
        entries = await self._api.every(f"{self._path}/entries")
        budget = await self._api.get(f"/v1/audit/budgets/{self._population}")
        verification = ui.column().classes("panel gap-3")
        self._table = self._records(entries, meaning_of_budget(budget))
        with verification:
            heading("Verification")
            later("Verifying every record", self._verify)

    def _records(self, entries: Sequence[dict[str, Any]], means: str) -> ui.table:
        with ui.column().classes("panel gap-3"):
            heading("Records")
            ui.label(f"What was spent, and its limit. {means}").classes("muted")
            with ui.row().classes("w-full items-center justify-between gap-2"):
                search = ui.input("Search the records").props("outlined dense clearable")
                search.classes("w-full sm:w-80")
                ui.link("Download the ledger", f"/api{self._path}/export").props("download")
            with scrolled("Records"):
                # The newest first.
                table = ui.table(
                    rows=[_row(entry) for entry in reversed(entries)],
                    columns=_COLUMNS,
                    row_key="number",
                    pagination=ROWS,
                )
            table.props(
                f'flat dense wrap-cells :rows-per-page-options="[{ROWS}]" '
                'no-results-label="No record has that in it"'
            ).classes("w-full")
            table.bind_filter_from(search, "value", lambda text: text or "")
            table.add_slot("body-cell-show", _SHOW)
            table.on("show", self._open)
        return table

    async def _verify(self) -> None:
        report = await self._api.get(f"{self._path}/verification")
        identity = await self._api.get("/v1/audit/coordinator")
        show_verification(report, identity["fingerprint"], self._population)
        wrong: dict[int, list[str]] = {}
        for finding in report["findings"]:
            if finding["line"] is not None:
                wrong.setdefault(finding["line"], []).append(finding["code"])
        fine = CHECKED if report["ok"] else "no finding"
        for row in self._table.rows:
            row["check"] = ", ".join(dict.fromkeys(wrong.get(row["number"], [fine])))
        self._table.update()

    async def _open(self, event: events.GenericEventArguments) -> None:
        """A record with everything but its long lists of divergences."""
        place = int(event.args)
        async with told():
            page = await self._api.get(self._path, start=place - 1, limit=1)
            sealed = page["data"][0]
            if sealed["record"]["round"] is not None:
                for name in _DIVERGENCES:
                    del sealed["record"]["round"]["accounts"][name]
            _dialog(place, sealed)


def _dialog(place: int, sealed: dict[str, Any]) -> None:
    dialog = ui.dialog().props(f'aria-label="Record {place}"')
    with dialog, ui.card().classes("w-full max-w-3xl gap-3"):
        heading(f"Record {place}")
        ui.label("Without its Renyi divergences, which are in the file.").classes("muted")
        text = json.dumps(sealed, indent=2, ensure_ascii=False)
        ui.label(text).classes("plain text-sm font-mono")
        ui.button("Close", on_click=dialog.close).props("flat no-caps").classes("self-end")
    dialog.on("hide", dialog.delete)
    dialog.open()


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    row = {"number": entry["number"], "is_record": entry["sealed"] is not None, "check": "…"}
    if entry["sealed"] is None:
        return row | {"event": "This line is no record"}
    record = entry["sealed"]["record"]
    row["time"] = record["time"].replace("T", " ").removesuffix("Z")
    if record["limit"] is not None:
        limit = record["limit"]
        return row | {
            "event": f"Limit of epsilon {number(limit['epsilon'])} at delta {limit['delta']:.3g} "
            f"for one {limit['unit']}, at Renyi order {limit['order']}",
            "limit": number(limit["epsilon"]),
        }
    facts, accounts = record["round"]["facts"], record["round"]["accounts"]
    charge = "charged" if facts["charged"] else "not charged"
    ending = facts["result"] if facts["reason"] is None else f"{facts['result']}: {facts['reason']}"
    survivors = facts["survivors"]
    return row | {
        "event": f"{facts['federation']}, round {facts['round_id']}, mode {facts['plan']['mode']}: "
        f"{ending}; {charge}",
        "sum": "" if survivors is None else f"{survivors} nodes, {facts['receipts']} receipts",
        "spent": number(accounts["epsilon_after"]),
    }
