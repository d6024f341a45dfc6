"""The other participants of a membership, whose fingerprints the owner compares and confirms."""

from __future__ import annotations

from functools import partial
from typing import Any

from nicegui import ui

from api.node.pages.federation_words import key_text
from api.node.pages.live import LivePage, answers
from api.pages.frame import heading
from api.pages.parts import named
from api.pages.words import counted

ADVICE = (
    "Compare each fingerprint in full with its owner, by telephone for instance, and never by way "
    "of the coordinator. A promise against a dishonest coordinator counts confirmed peers only."
)


def draw_peers(page: LivePage, membership: dict[str, Any]) -> None:
    """The roster that was seen last, with a button for each peer that is not confirmed."""
    others = [peer for peer in membership["peers"] if not peer["own"]]
    confirmed = sum(peer["confirmed"] for peer in others)
    with ui.column().classes("w-full gap-2"):
        heading("Peers", 4)
        if not others:
            ui.label("There are no others on the roster yet.").classes("muted")
            return
        ui.label(f"{confirmed} of {counted(len(others), 'peer')} confirmed. {ADVICE}").classes(
            "muted"
        )
        with ui.element("ul").classes("w-full flex flex-col"):
            for peer in others:
                with (
                    ui.element("li")
                    .classes("w-full py-2")
                    .style("border-top: 1px solid var(--line)")
                ):
                    _draw_peer(page, membership, peer)


def _draw_peer(page: LivePage, membership: dict[str, Any], peer: dict[str, Any]) -> None:
    with ui.row().classes("w-full items-center gap-x-4 gap-y-1"):
        with ui.column().classes("gap-0 min-w-0 grow basis-64"):
            ui.label(peer["name"]).classes("plain font-semibold")
            key_text(peer["fingerprint"])
        if peer["confirmed"]:
            with ui.row().classes("items-center gap-1"):
                ui.icon("verified", size="sm").props("aria-hidden=true")
                ui.label("Confirmed")
            return
        button = ui.button("Confirm", icon="compare_arrows").props("outline no-caps")
        named(button, f"Confirm {peer['name']}")
        button.on_click(partial(page.act, button, partial(_confirm, page, membership, peer)))


async def _confirm(page: LivePage, membership: dict[str, Any], peer: dict[str, Any]) -> None:
    question = f"Did the owner of {peer['name']} read out this fingerprint?"
    with page.dialog(question, "max-w-lg") as dialog:
        key_text(peer["fingerprint"])
        ui.label(
            "All 64 digits have to be the same, and you have to know the voice. A confirmation is "
            "not taken back."
        )
        answers(dialog, "All of it is the same")
    if await dialog:
        path = f"/v1/federation/memberships/{membership['id']}/peers"
        await page.api.send("PUT", path, {"fingerprint": peer["fingerprint"]})
