"""The page of what each population and federation has spent of its privacy budget."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from nicegui import ui

from api.coordinator.pages import charts
from api.coordinator.pages.charts import Line, chart
from api.coordinator.pages.links import BRAND, links
from api.coordinator.pages.shown import VIEWS, later, meaning, meaning_of_budget
from api.pages.client import Api
from api.pages.frame import frame, heading, opened
from api.pages.parts import named
from api.pages.sessions import Sessions
from api.pages.words import number


def define(app: FastAPI, sessions: Sessions) -> None:
    @ui.page("/")
    async def budgets(request: Request) -> None:
        page = opened(app, sessions, request)
        with frame("Budgets", links(page.visitor), BRAND):
            ui.add_css(charts.STYLE)
            later("Budgets", partial(_show, page.api))


async def _show(api: Api) -> None:
    found = (await api.get("/v1/audit/budgets"))["data"]
    if not found:
        with ui.element("div").classes("panel"):
            heading("There is no population yet")
            ui.label(
                "A budget belongs to a population. An admin makes one, and federations in it."
            ).classes("muted")
    for budget in found:
        name = budget["population"]
        entries = await api.every(f"/v1/audit/ledgers/{name}/entries")
        courses = [
            await api.get(f"/v1/audit/federations/{one['federation']}/epsilons")
            for one in budget["federations"]
        ]
        with ui.column().classes("panel gap-3"):
            _population(budget, entries)
            if not courses:
                ui.label("It has no federation yet, so nothing was spent.").classes("muted")
            for account, course in zip(budget["federations"], courses, strict=True):
                _federation(account, course, budget)


def _population(budget: dict[str, Any], entries: Sequence[dict[str, Any]]) -> None:
    heading(budget["population"]).classes("plain")
    with ui.row().classes("gap-x-8 gap-y-2"):
        for label, epsilon in (
            ("Epsilon spent", budget["epsilon_spent"]),
            ("Reserved on top", budget["epsilon_reserved"]),
            ("Left", budget["epsilon_left"]),
            ("Limit", budget["epsilon_limit"]),
        ):
            with ui.column().classes("gap-0"):
                ui.label(label).classes("muted text-sm")
                ui.label(number(epsilon)).classes("text-xl font-semibold")
    ui.label(meaning_of_budget(budget)).classes("muted")
    _shares(budget)
    _burn_down(budget, entries)


def _shares(budget: dict[str, Any]) -> None:
    """In divergences, since epsilons do not add up."""
    charged, reserved, left = (
        budget[part] / budget["capacity"] for part in ("charged", "reserved", "left")
    )
    bar = ui.linear_progress(min(1.0, charged), show_value=False, size="12px", color=None)
    bar.props(f'rounded :buffer={min(1.0, charged + reserved):.4f} aria-label="Budget charged"')
    bar.classes("w-full").style("color: var(--chart-1); border: 1px solid var(--line)")
    ui.label(
        f"{charged:.1%} of the budget is charged, {reserved:.1%} reserved, {left:.1%} left, "
        "counted in Renyi divergences, which add up where epsilons do not."
    )


def _burn_down(budget: dict[str, Any], entries: Sequence[dict[str, Any]]) -> None:
    records = [entry["sealed"]["record"] for entry in entries if entry["sealed"] is not None]
    if any(record["round"] is not None for record in records):
        heading("Epsilon spent, record by record", 3)
        chart(
            f"Epsilon spent by {budget['population']}",
            "Record of the ledger",
            _spending(records),
            is_stepped=True,
        )
    if len(records) < len(entries):
        ui.label(
            f"Lines of the ledger that are no records: {len(entries) - len(records)}. Something "
            "has changed it."
        ).classes("font-semibold")
    with ui.row().classes("items-baseline gap-x-4"):
        ui.label("As the ledger's records declare it.").classes("muted")
        verify = ui.link("Verify the ledger", f"/ledger?population={budget['population']}")
        named(verify, f"Verify the ledger of {budget['population']}")


def _spending(records: Sequence[dict[str, Any]]) -> tuple[Line, Line]:
    """What is spent, and the limit in force, after each record."""
    spent, limit = 0.0, 0.0
    spending, limits = [], []
    for place, record in enumerate(records, 1):
        if record["limit"] is not None:
            limit = record["limit"]["epsilon"]
        if record["round"] is not None:
            spent = record["round"]["accounts"]["epsilon_after"]
        spending.append((place, spent))
        limits.append((place, limit))
    return Line("Spent", spending), Line("Limit", limits, is_limit=True)


def _federation(account: dict[str, Any], course: dict[str, Any], budget: dict[str, Any]) -> None:
    ui.separator()
    name = account["federation"]
    heading(f"{name} ({account['state']})", 3).classes("plain")
    ui.label(
        f"{account['charged']} of {account['rounds']} rounds charged, {account['reserved']} "
        f"reserved, {account['released']} given back; at most {account['participations']} count "
        "for one node."
    )
    ui.label(
        f"Of the population's limit its charged rounds alone take epsilon "
        f"{number(account['epsilon_spent'])} at delta {account['delta']:.3g}, mode "
        f"{account['mode']}, unit {account['unit']}, adjacency {account['adjacency']}, at the "
        f"limit's Renyi order {budget['order']}. Assumes that {account['trust']}."
    ).classes("muted")
    with ui.element("div").classes("grid gap-3 grid-cols-1 sm:grid-cols-3 w-full"):
        for guarantee in course["guarantees"]:
            _guarantee(guarantee, course)
    _course(account, course, budget)
    link = ui.link("Privacy statement", f"/statement/{name}")
    named(link, f"Privacy statement of {name}")


def _guarantee(guarantee: dict[str, Any], course: dict[str, Any]) -> None:
    now = next(point for point in course["data"] if point["rounds"] >= course["charged"])
    view = guarantee["name"].removeprefix("epsilon_")
    with ui.column().classes("gap-1 rounded p-3").style("background: var(--soft)"):
        ui.label(VIEWS[guarantee["name"]]).classes("font-semibold")
        ui.label(guarantee["name"]).classes("muted text-sm")
        ui.label(f"{number(now[view])} so far").classes("text-xl font-semibold")
        whole = f"{number(guarantee['epsilon'])} for the whole plan"
        if guarantee["mode"] != "client":
            whole += f"; {number(guarantee['two_nodes'])} if a subject sits on two nodes"
        ui.label(whole)
        ui.label(f"{meaning([guarantee['mode']], guarantee)}.").classes("muted text-sm")
        ui.label(f"Assumes that {guarantee['trust']}.").classes("muted text-sm")


def _course(account: dict[str, Any], course: dict[str, Any], budget: dict[str, Any]) -> None:
    lines = [
        Line(
            VIEWS[guarantee["name"]],
            [
                (point["rounds"], point[guarantee["name"].removeprefix("epsilon_")])
                for point in course["data"]
            ],
        )
        for guarantee in course["guarantees"]
    ]
    ends = [(point["rounds"], budget["epsilon_limit"]) for point in course["data"]]
    lines.append(Line("Limit of the population", ends, is_limit=True))
    chart(
        f"The three epsilons of {account['federation']}",
        "Rounds",
        lines,
        is_stepped=False,
        now=course["charged"],
    )
    ui.label(
        f"Charged so far: {course['charged']} of {course['rounds']} rounds; the rest is what the "
        f"plan would still cost. At the plan's delta {account['delta_plan']:.3g} and its best "
        f"Renyi order; the limit is drawn at its own delta {budget['delta']:.3g} and order "
        f"{budget['order']}, and holds for the coordinator's view of all federations together."
    ).classes("muted text-sm")
