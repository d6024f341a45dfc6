"""The privacy statement of a federation, to read and to print."""

from __future__ import annotations

from functools import partial
from urllib.parse import quote

from fastapi import FastAPI, Request
from nicegui import ui

from api.coordinator.pages.links import BRAND, links
from api.coordinator.pages.shown import later
from api.pages.client import Api, RefusedError
from api.pages.frame import frame, heading, opened
from api.pages.sessions import Sessions

STYLE = """
.sentences { margin: 0; padding-left: 1.2rem; list-style: disc; max-width: 52rem; }
.sentences li { margin: .3rem 0; }
@media print {
  .q-header, .unprinted { display: none !important; }
  .q-page-container { padding-top: 0 !important; }
  body, body.body--dark { background: #fff; color: #000; --muted: #333; }
  body .panel, body.body--dark .panel { border: 0; padding: 0; background: #fff; }
  .sentences li, .section-title { break-inside: avoid; }
  .section-title { break-after: avoid; }
}
"""


def define(app: FastAPI, sessions: Sessions) -> None:
    @ui.page("/statement/{federation}")
    async def statement(request: Request, federation: str) -> None:
        page = opened(app, sessions, request)
        with frame("Privacy statement", links(page.visitor), BRAND):
            ui.add_css(STYLE)
            later("The statement", partial(_show, page.api, federation))


async def _show(api: Api, federation: str) -> None:
    try:
        made = await api.get(f"/v1/audit/federations/{quote(federation, safe='')}/statement")
    except RefusedError as error:
        with ui.column().classes("panel"):
            ui.label(f"{str(error)[:1].upper()}{str(error)[1:]}.").classes("plain")
            ui.link("All federations are under Budgets", "/")
        return
    identity = await api.get("/v1/audit/coordinator")
    with ui.row().classes("unprinted w-full justify-between items-center"):
        ui.link("Back to the budgets", "/")
        ui.button("Print", icon="print").props("unelevated no-caps").on(
            "click", js_handler="() => window.print()"
        )
    with ui.column().classes("panel gap-4"):
        with ui.column().classes("gap-1"):
            heading(f"Federation {made['federation']} of {made['population']}").classes("plain")
            ui.label(f"Signed plan: {made['plan_hash']}").classes("muted plain text-sm")
            ui.label(f"Coordinator's key: {identity['fingerprint']}").classes("muted plain text-sm")
        for section in made["sections"]:
            with ui.column().classes("gap-1"):
                heading(section["title"], 3).classes("section-title")
                with ui.element("ul").classes("sentences"):
                    for sentence in section["sentences"]:
                        with ui.element("li"):
                            ui.label(sentence).classes("plain")
