"""The page of what each population and federation has spent of its privacy budget."""

from __future__ import annotations

from fastapi import FastAPI, Request
from nicegui import ui

from api.coordinator.pages.links import BRAND, links
from api.pages.frame import frame, opened, told
from api.pages.sessions import Sessions


def define(app: FastAPI, sessions: Sessions) -> None:
    @ui.page("/")
    async def budgets(request: Request) -> None:
        page = opened(app, sessions, request)
        with frame("Budgets", links(page.visitor), BRAND):
            async with told():
                for entry in (await page.api.get("/v1/audit/budgets"))["data"]:
                    ui.label(entry["population"])
