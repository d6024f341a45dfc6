"""Changing what the node agrees to, with the effect in view before it is saved."""

from __future__ import annotations

from functools import partial
from typing import Any

from nicegui import ui

from api.node.pages.federation_effect import POLICY, draw_effect, effect
from api.node.pages.live import LivePage
from api.pages.client import RefusedError
from api.pages.frame import heading, told

NUMBERS = {
    "lifetime_epsilon": ("Lifetime epsilon", "for one subject, all coordinators together"),
    "lifetime_delta": ("Lifetime delta", "fixed with the first coordinator that you join"),
    "lifetime_order": ("Lifetime Renyi order", "fixed with the first coordinator that you join"),
    "largest_epsilon": ("Largest epsilon of a plan", "towards the coordinator"),
    "largest_epsilon_alone": ("Largest epsilon, others dishonest", "empty: any"),
    "largest_delta": ("Largest delta of a plan", "between 0 and 1"),
    "smallest_cohort": ("Fewest nodes invited", "at least 2"),
    "smallest_min_survivors": ("Fewest nodes in a sum", "at least 2"),
    "largest_dimension": ("Most parameters", "of an adapter"),
}
FIXED = ("lifetime_delta", "lifetime_order")
CHOICES = {
    "modes": ("Modes of privacy", {"client": "Client", "document": "Document", "local": "Local"}),
    "threat_models": (
        "Coordinators that sums are protected against",
        {"honest_but_curious": "Honest but curious", "active": "Active"},
    ),
    "adapters": ("What may be adapted", {"retriever": "Retriever", "generator": "Generator"}),
}


class PolicyForm:
    """The terms of a policy as fields of a dialog."""

    def __init__(self, page: LivePage, policy: dict[str, Any], *, is_fixed: bool) -> None:
        """`is_fixed`: something was joined, which fixed order and delta of the lifetime limit."""
        self._page = page
        self._policy = policy
        self._is_fixed = is_fixed
        self._asked = 0

    async def open(self) -> None:
        """Returns when it is closed, saved or not."""
        with self._page.dialog("Change what this node agrees to", "max-w-3xl") as dialog:
            self._draw_fields()
            heading("What would follow", 3)
            self._effect = ui.column().classes("w-full gap-2").props("aria-live=polite")
            ui.timer(0, self._weigh, once=True)
            with ui.row().classes("w-full justify-end gap-2"):
                ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
                save = ui.button("Save", icon="check").props("unelevated no-caps")
                save.on_click(partial(self._save, save, dialog))
        await dialog

    def _draw_fields(self) -> None:
        self._numbers: dict[str, ui.number] = {}
        with ui.element("div").classes("w-full grid grid-cols-1 sm:grid-cols-2 gap-x-4 gap-y-1"):
            for term, (label, hint) in NUMBERS.items():
                field = ui.number(label, value=self._policy[term], on_change=self._weigh)
                field.props("outlined dense step=any debounce=300").props["hint"] = hint
                field.set_enabled(not (self._is_fixed and term in FIXED))
                self._numbers[term] = field
        self._choices = {term: self._draw_choice(term) for term in CHOICES}
        models = self._policy["base_models"]
        self._models = ui.input(
            "Base models", value="" if models is None else ", ".join(models), on_change=self._weigh
        ).classes("w-full")
        hint = "with commas between; empty: whichever this node runs"
        self._models.props("outlined dense debounce=300").props["hint"] = hint
        self._shares = ui.checkbox(
            "Feedback of users may enter rounds",
            value=self._policy["shares_feedback"],
            on_change=self._weigh,
        )

    def _draw_choice(self, term: str) -> dict[str, ui.checkbox]:
        title, options = CHOICES[term]
        with ui.element("fieldset").classes("w-full m-0 p-0 border-0"):
            with ui.element("legend").classes("muted text-sm p-0"):
                ui.label(title)
            with ui.row().classes("gap-x-4 gap-y-0"):
                return {
                    value: ui.checkbox(
                        label, value=value in self._policy[term], on_change=self._weigh
                    )
                    for value, label in options.items()
                }

    def _typed(self) -> dict[str, Any]:
        models = [name.strip() for name in str(self._models.value or "").split(",")]
        return {
            **{term: field.value for term, field in self._numbers.items()},
            **{
                term: [value for value, box in boxes.items() if box.value]
                for term, boxes in self._choices.items()
            },
            "base_models": [name for name in models if name] or None,
            "shares_feedback": self._shares.value,
        }

    async def _weigh(self) -> None:
        """Show what would follow; an answer that is overtaken by more typing is dropped."""
        self._asked += 1
        asked = self._asked
        problem, plans = None, []
        async with told():
            try:
                plans = await effect(self._page.api, self._typed())
            except RefusedError as error:
                problem = f"That makes no policy: {error}."
        if asked != self._asked or self._effect.is_deleted:
            return
        self._effect.clear()
        with self._effect:
            if problem is None:
                draw_effect(plans, with_costs=False)
            else:
                ui.label(problem).classes("plain font-semibold")

    async def _save(self, button: ui.button, dialog: ui.dialog) -> None:
        button.disable()
        try:
            async with told():
                await self._page.api.send("PUT", POLICY, self._typed())
                dialog.close()
        finally:
            button.enable()
