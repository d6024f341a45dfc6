"""How much privacy this node has spent, against its owner's limit."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from api.node.pages.live import LivePage
from api.pages.words import counted, number

CLOSE = 0.8
"""Share of the limit from which the bar says that little is left."""


class Odometer:
    """The part of the page about the odometer."""

    def __init__(self, page: LivePage) -> None:
        self._page = page
        page.part("Privacy spent", self._read, _draw)

    async def _read(self) -> Any:
        return await self._page.api.get("/v1/federation/odometer")


def _draw(found: dict[str, Any]) -> None:
    with ui.column().classes("panel gap-2"):
        if found["epsilon_limit"] is None:
            ui.label("Nothing was ever joined, so nothing is spent.")
            return
        spent, limit = found["epsilon_spent"], found["epsilon_limit"]
        share = spent / limit
        ui.label(f"Epsilon {number(spent)} of at most {number(limit)}").classes("font-semibold")
        bar = ui.linear_progress(min(share, 1.0), size="14px", show_value=False)
        bar.props('rounded aria-label="Privacy spent"')
        if share >= CLOSE:
            bar.props("color=negative")
        ui.label(_rest(share))
        ui.label(
            f"After {counted(found['debits'], 'round')}, at delta {number(found['delta'])}, for "
            f"one {found['unit']}: a document, unless you grouped documents. Adjacency zero-out, "
            f"counted at Renyi order {found['order']} over all coordinators, federations and "
            "assistants. It assumes what each plan assumes of the nodes in a sum. Nothing that was "
            "spent comes back, even after leaving."
        ).classes("muted")


def _rest(share: float) -> str:
    if share >= 1:
        return "The limit is reached: this node enters no round that costs anything."
    if share >= CLOSE:
        return f"{share:.0%} is spent: few rounds are left before the node refuses."
    return f"{share:.0%} is spent. The node refuses the round that would pass the limit."
