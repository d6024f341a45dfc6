"""The page on which questions are asked."""

from __future__ import annotations

from fastapi import FastAPI, Request
from nicegui import ui

from api.node.pages.links import BRAND, links
from api.pages.frame import frame, opened, told
from api.pages.sessions import Sessions


def define(app: FastAPI, sessions: Sessions) -> None:
    @ui.page("/")
    async def chat(request: Request) -> None:
        page = opened(app, sessions, request)
        with frame("Chat", links(page.visitor), BRAND):
            async with told():
                for model in (await page.api.get("/v1/models"))["data"]:
                    ui.label(model["id"])
