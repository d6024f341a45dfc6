"""The page on which owners see and decide what the node learns with others."""

from __future__ import annotations

from fastapi import FastAPI, Request
from nicegui import ui

from api.node.pages.federation_contributions import Contributions
from api.node.pages.federation_memberships import Memberships
from api.node.pages.federation_odometer import Odometer
from api.node.pages.federation_policy import Policy
from api.node.pages.federation_versions import Versions
from api.node.pages.links import BRAND, links
from api.node.pages.live import LivePage, refused
from api.pages.client import Api, RefusedError
from api.pages.frame import BUILD_SECONDS, frame, opened, told
from api.pages.sessions import Sessions


def define(app: FastAPI, sessions: Sessions) -> None:
    @ui.page("/federation", response_timeout=BUILD_SECONDS)
    async def federation(request: Request) -> None:
        page = opened(app, sessions, request)
        with frame("Federation", links(page.visitor), BRAND):
            async with told():
                await _content(page.api)


async def _content(api: Api) -> None:
    try:
        # Only the owner of the whole node may look, which the API says.
        await api.get("/v1/federation/memberships")
    except RefusedError as error:
        refused(error)
        return
    ui.label(
        "What leaves this node in a round is one vector, clipped, with noise in it and masked, so "
        "that a coordinator can open the sum of all nodes only. Documents and questions never "
        "leave."
    ).classes("muted")
    page = LivePage(api)
    for part in (Memberships, Odometer, Policy, Versions, Contributions):
        part(page)
    page.follow()
