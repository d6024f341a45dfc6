"""Every round that the node entered, what left it, and the receipts."""

from __future__ import annotations

import json
from functools import partial
from typing import Any
from urllib.parse import quote

from nicegui import ui

from api.node.pages.federation_words import fact
from api.node.pages.live import LivePage
from api.pages.door import PREFIX
from api.pages.frame import heading
from api.pages.parts import named
from api.pages.words import moment, number, size

MOST_SHOWN = 20
OUTCOMES = {
    "enlisted": "Entered; nothing has been sent yet",
    "sent": "Sent one masked vector; the round is not over",
    "finished": "Sent one masked vector; the round is over",
    "left": "Left early",
}


class Contributions:
    """The part of the page about contributions."""

    def __init__(self, page: LivePage) -> None:
        self._page = page
        page.part("What this node has contributed to", self._read, self._draw)

    async def _read(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._page.api.get("/v1/federation/contributions"))[
            "data"
        ]
        return found

    def _draw(self, found: list[dict[str, Any]]) -> None:
        if not found:
            with ui.column().classes("panel"):
                ui.label(
                    "This node has entered no round yet. It does so by itself once a coordinator "
                    "has approved it and runs a plan that it accepts."
                )
            return
        ui.label(
            "Give the receipts to an auditor: with them a round that a coordinator left out of its "
            "ledger is found."
        ).classes("muted")
        with ui.element("ul").classes("panel flex flex-col !py-0") as entries:
            self._draw_some(found[:MOST_SHOWN])
        if len(found) > MOST_SHOWN:
            self._offer_more(entries, found[MOST_SHOWN:])

    def _offer_more(self, entries: ui.element, rest: list[dict[str, Any]]) -> None:
        def show() -> None:
            with entries:
                self._draw_some(rest)
            more.delete()

        more = ui.button(f"Show {number(len(rest))} older", on_click=show).props("flat no-caps")

    def _draw_some(self, some: list[dict[str, Any]]) -> None:
        for one in some:
            with ui.element("li").classes("py-3").style("border-bottom: 1px solid var(--line)"):
                self._draw_one(one)

    def _draw_one(self, one: dict[str, Any]) -> None:
        reason = f": {one['reason']}" if one["reason"] else ""
        with ui.row().classes("w-full items-start justify-between gap-x-4 gap-y-2"):
            with ui.column().classes("gap-0 min-w-0 grow basis-64"):
                heading(one["federation"], 3).classes("plain")
                ui.label(f"{OUTCOMES[one['outcome']]}{reason}").classes("plain")
                ui.label(f"{moment(one['seen_at'])} · round {one['round_id']}").classes(
                    "plain muted text-sm"
                )
                if one["sent_bytes"] is not None:
                    ui.label(f"{size(one['sent_bytes'])} sent, SHA-256 {one['sent_hash']}").classes(
                        "plain muted text-xs"
                    )
            if one["receipt"]:
                self._draw_receipt(one)
            else:
                ui.label("No receipt").classes("muted")

    def _draw_receipt(self, one: dict[str, Any]) -> None:
        path = f"/v1/federation/receipts/{quote(one['round_id'], safe='')}"
        with ui.row().classes("gap-3"):
            view = ui.button("Receipt", icon="receipt_long").props("outline no-caps")
            named(view, f"Receipt of round {one['round_id']}")
            view.on_click(partial(self._page.act, view, partial(self._view, path)))
            save = ui.element("a").classes("self-center underline")
            save.props["href"] = f"{PREFIX}/api{path}"
            save.props["download"] = f"{one['round_id']}.json"
            named(save, f"Download the receipt of round {one['round_id']}")
            with save:
                ui.label("Download")

    async def _view(self, path: str) -> None:
        receipt = await self._page.api.get(path)
        with self._page.dialog("Receipt", "max-w-2xl") as dialog:
            _draw_receipt(receipt)
            with ui.row().classes("w-full justify-end"):
                ui.button("Close", on_click=dialog.close).props("flat no-caps")
        await dialog


def _draw_receipt(receipt: dict[str, Any]) -> None:
    statement = receipt["signed"]["statement"]
    ui.label(
        "The coordinator signed this before it opened the sum, and this node countersigned it."
    ).classes("muted")
    fact("Population", statement["population"])
    fact("Federation", statement["federation"])
    fact("Round", statement["round_id"])
    for name, value in (
        ("Plan (hash)", statement["plan_hash"]),
        ("Nodes in the sum (hash of the list)", statement["survivors_hash"]),
        ("Last record of the ledger (hash)", statement["head"]),
        ("The coordinator's key", receipt["signed"]["coordinator"]),
        ("This node's key", receipt["participant"]),
    ):
        fact(name, value, is_key=True)
    with ui.expansion("As a file").classes("w-full").props("dense header-class=px-0"):
        ui.label(json.dumps(receipt, indent=2)).classes("plain font-mono text-sm")
