"""What a consent policy means for the plans that the node knows."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from api.node.pages.federation_words import guarantee
from api.pages.client import Api
from api.pages.frame import heading

POLICY = "/v1/federation/policy"
VIEWS = {
    "coordinator": "Towards the coordinator",
    "release": "Towards readers of what is released",
    "alone": "If all other nodes were dishonest",
}


async def effect(api: Api, policy: dict[str, Any]) -> list[dict[str, Any]]:
    """The plans of memberships that were not left, as this policy would have them.

    Raises:
        RefusedError: the policy makes no sense; the message says why.
    """
    weighed = (await api.send("POST", f"{POLICY}/effect", policy))["data"]
    memberships = (await api.get("/v1/federation/memberships"))["data"]
    urls = {one["id"]: one["url"] for one in memberships if one["state"] != "left"}
    return [{**one, "url": urls[one["membership"]]} for one in weighed if one["membership"] in urls]


def draw_effect(plans: list[dict[str, Any]], *, with_costs: bool) -> None:
    """Whether each plan is accepted, and if not, every reason; `with_costs`: its epsilons too."""
    if not plans:
        ui.label("It knows no plan yet: they come from coordinators that have let it in.").classes(
            "muted"
        )
    for one in plans:
        with ui.column().classes("panel gap-2"):
            heading(f"{one['federation']}, for the {one['adapter']}", 4).classes("plain")
            _draw_answer(one)
            if with_costs:
                _draw_costs(one)


def _draw_answer(one: dict[str, Any]) -> None:
    with ui.row().classes("items-center no-wrap gap-2"):
        ui.icon("check_circle" if one["accepted"] else "block", size="sm").props("aria-hidden=true")
        answer = "Accepted" if one["accepted"] else "Refused"
        ui.label(f"{answer}, from {one['url']}").classes("plain")
    if one["refusals"]:
        with ui.element("ul").classes("list-disc pl-8 flex flex-col gap-1"):
            for reason in one["refusals"]:
                with ui.element("li"):
                    ui.label(reason).classes("plain")


def _draw_costs(one: dict[str, Any]) -> None:
    with (
        ui.expansion("What the whole plan may cost")
        .classes("w-full")
        .props("dense header-class=px-0")
    ):
        for view, words in VIEWS.items():
            ui.label(f"{words}: {guarantee(one[view])}.").classes("plain py-1")
