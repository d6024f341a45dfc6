"""What the coordinator's verification of its own ledger says, with all that it does not show."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from api.coordinator.pages.shown import meaning
from api.pages.words import number

CHECKED = "verified"


def show_verification(report: dict[str, Any], fingerprint: str, population: str) -> None:
    """The report of /verification, and how to run it without trust in the coordinator."""
    _verdict(report)
    with ui.element("dl").classes("grid gap-x-6 gap-y-1 sm:grid-cols-[max-content_1fr]"):
        _fact("Key", fingerprint)
        _fact("Head of the chain", report["head"])
        _fact("Rounds charged", str(report["rounds_charged"]))
        _fact("Receipts checked", f"{report['receipts']}, as participants have sent them")
        if report["epsilon"] is not None:
            _epsilons(report)
    with ui.element("ul").style("list-style: disc; padding-left: 1.2rem"):
        for sentence in report["statements"]:
            with ui.element("li"):
                ui.label(sentence).classes("plain")
    ui.label(
        "The coordinator says this of itself. To rely on nothing but its key, download the ledger, "
        "compare the key with the fingerprint that nodes' owners were given, and run:"
    )
    ui.label(f'alcove audit verify {population}.jsonl --keys "{fingerprint}"').classes(
        "plain font-mono text-sm rounded p-2"
    ).style("background: var(--soft)")


def _verdict(report: dict[str, Any]) -> None:
    records, findings = report["records"], report["findings"]
    look, icon = ("accepted", "verified") if report["ok"] else ("refused", "error")
    verdict = (
        f"All {records} records are verified: chain, signatures and every epsilon."
        if report["ok"]
        else f"The ledger is NOT accepted. Findings: {len(findings)}."
    )
    with ui.row().classes("items-center no-wrap").props("role=status"):
        ui.icon(icon, size="md").props("aria-hidden=true").classes(look)
        ui.label(verdict).classes("font-semibold")
    if not findings:
        return
    with ui.element("ul").style("list-style: disc; padding-left: 1.2rem"):
        for finding in findings:
            where = "" if finding["line"] is None else f"record {finding['line']}, "
            with ui.element("li"):
                ui.label(f"{where}{finding['code']}: {finding['message']}").classes("plain")


def _epsilons(report: dict[str, Any]) -> None:
    _fact(
        "Epsilon spent",
        f"{number(report['epsilon'])}. {meaning(report['modes'], report)}; towards the "
        "coordinator, and assuming of the nodes what each plan says.",
    )
    _fact("By dp-accounting, Renyi", _computed(report["epsilon_renyi"]))
    _fact("By dp-accounting, privacy loss distributions", _computed(report["epsilon_pld"]))


def _fact(name: str, value: str) -> None:
    with ui.element("dt"):
        ui.label(name).classes("muted")
    with ui.element("dd").classes("m-0"):
        ui.label(value).classes("plain")


def _computed(epsilon: float | None) -> str:
    return "not computed" if epsilon is None else number(epsilon)
