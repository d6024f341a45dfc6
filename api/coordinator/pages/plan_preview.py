"""What a plan would mean, beside its editor."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from api.pages.frame import heading
from api.pages.words import duration, number, size

VIEWS = {
    "coordinator": "Towards the coordinator",
    "release": "Towards readers of what is released",
    "alone": "If all other nodes were dishonest",
}


class PlanPreview:
    """One of: what is missing, why it is refused, or the numbers of a plan."""

    def __init__(self) -> None:
        # Read out when it changes, after whoever types has paused.
        with (
            ui.column().classes("panel gap-3").props("aria-live=polite role=region") as self._place
        ):
            self._place.props["aria-label"] = "What the plan means"
            heading("What the plan means")
            self._content = ui.column().classes("w-full gap-3")

    def wait(self, missing: list[str]) -> None:
        """Say what has to be filled in first."""
        self._content.clear()
        with self._content:
            ui.label(f"Still to be filled in: {', '.join(missing)}.").classes("muted")

    def refuse(self, reason: str) -> None:
        """Show why this is no plan."""
        self._content.clear()
        with self._content:
            _show_refusal(reason)

    def show(self, found: dict[str, Any]) -> None:
        """The numbers of a preview, its warnings and its refusal."""
        self._content.clear()
        with self._content:
            if found["refusal"]:
                _show_refusal(found["refusal"])
            for warning in found["warnings"]:
                with ui.element("p").classes("plain"):
                    ui.label(f"Warning: {warning}")
            for view, title in VIEWS.items():
                _show_guarantee(title, found["total"][view], found["per_round"][view])
            _show_rest(found)


def _show_refusal(reason: str) -> None:
    with ui.element("div").props("role=alert").classes("refusal"):
        ui.label("This would be refused").classes("font-semibold")
        ui.label(reason).classes("plain")


def _show_guarantee(title: str, total: dict[str, Any], one: dict[str, Any]) -> None:
    with ui.element("section").classes("rule pt-2"):
        with ui.row().classes("w-full items-baseline justify-between gap-x-3 gap-y-0 no-wrap"):
            heading(title, 3)
            shown = ui.label(f"ε {number(total['epsilon'])}")
            shown.classes("text-lg font-semibold whitespace-nowrap")
        ui.label(f"At δ {total['delta']:.3g}. One round: ε {number(one['epsilon'])}.")
        if total["mode"] != "client":
            ui.label(f"If the subject is on two nodes: ε {number(total['two_nodes'])}.")
        ui.label(
            f"Mode {total['mode']}, unit {total['unit']}, adjacency {total['adjacency']}; "
            f"assumes that {total['trust']}."
        ).classes("muted text-sm")


def _show_rest(found: dict[str, Any]) -> None:
    privacy = found["plan"]["privacy"]
    with ui.element("dl").classes("w-full grid grid-cols-[auto_1fr] gap-x-4 gap-y-1 rule pt-2"):
        _entry("Noise-to-signal", f"{found['noise_to_signal']:.3g}")
        _entry(
            "A node in a round", f"{size(found['bytes_up'])} up, {size(found['bytes_down'])} down"
        )
        _entry("A round takes", _times(found))
        _entry("All rounds", f"{duration(found['seconds_all_rounds'])} at the most")
        _entry("Parameters", f"{found['parameters']:,}")
        _entry("Noise multiplier", f"{privacy['noise_multiplier']:.4g}")
        _entry(
            "Nodes that must stay", f"{privacy['min_survivors']} of {privacy['cohort']}, "
            f"{privacy['colluders']} of whom may collude",
        )  # fmt: skip
    if found["budget"] is not None:
        with ui.element("section").classes("rule pt-2"):
            heading(f"Budget of {found['plan']['population']}", 3)
            ui.label(_budget(found["budget"]))


def _times(found: dict[str, Any]) -> str:
    expected, longest = found["seconds_expected"], found["seconds_longest"]
    return f"{duration(expected)}, {duration(longest)} at the most"


def _budget(fit: dict[str, Any]) -> str:
    return (
        f"ε {number(fit['epsilon_committed'])} of {number(fit['epsilon_limit'])} is committed, "
        f"{number(fit['epsilon_after'])} with this plan, at δ {fit['delta']:.3g}; mode "
        f"{fit['mode']}, unit {fit['unit']}, adjacency {fit['adjacency']}, kept at Rényi order "
        f"{fit['order']}; assumes that {fit['trust']}."
    )


def _entry(name: str, value: str) -> None:
    with ui.element("dt").classes("muted"):
        ui.label(name)
    with ui.element("dd").classes("plain"):
        ui.label(value)
