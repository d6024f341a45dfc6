"""The fields of a plan. What is typed is sent as it stands: the API says what is wrong with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from api.pages.frame import heading

Changed = Callable[[], Awaitable[None]]
DEBOUNCE_MS = 350
"""After the last key, before a plan is looked at again."""

MODES = {
    "document": "document: subjects, noise of all nodes together",
    "client": "client: whole nodes, noise of all nodes together",
    "local": "local: subjects, each node adds all the noise",
}
KINDS = {"retriever": "Retriever: query map", "generator": "Generator: adapter"}
THREATS = {
    "honest_but_curious": "Honest but curious coordinator",
    "active": "Active coordinator, peers confirmed",
}
_OF_SUBJECTS = ("planned_rows", "sampling_rate")
_MODULE = ("name", "inputs", "outputs")


class PlanForm:
    """Fields by their names in `POST /v1/admin/federations`; the API's defaults fill empty ones.

    Args:
        populations: names to choose from.
        base_models: of each kind of adapter, a model that an earlier plan has named.
        changed: called a moment after a field has changed.
    """

    def __init__(
        self, populations: list[str], base_models: dict[str, str], changed: Changed
    ) -> None:
        self._changed = changed
        self._base_models = base_models
        self._plan: dict[str, Any] = {}
        self._adapter: dict[str, Any] = {}
        self._timing: dict[str, Any] = {}
        with self._group("Federation"):
            self.population = self._choice(self._plan, "population", "Population", populations)
            self._text(self._plan, "federation", "Name", hint="Lower-case letters, digits, hyphens")
        with self._group("What is trained"):
            self._adapter_fields()
        with self._group("Who is protected, and how well"):
            self._privacy_fields()
        with self._group("Who takes part"):
            self._cohort_fields()
        with self._group("How long a round waits, in seconds"):
            for name, label, value in (
                ("enlist_seconds", "To enlist", "60"),
                ("phase_seconds", "For each message", "60"),
                ("training_seconds", "For training", "600"),
                ("interval_seconds", "Between rounds", "0"),
            ):
                self._text(self._timing, name, label, value)
        with self._group("Public passages", columns=1):
            self._passages = self._area(
                "One a line", "Serve every node as negatives or distractors; public data only"
            )
        self._adjust()

    def missing(self) -> list[str]:
        """Labels of the fields without which there is no plan to look at."""
        fields = [self._plan["population"], self._plan["federation"], self._adapter["base_model"]]
        if self._protects_subjects:
            fields.append(self._plan["planned_rows"])
        return [field.label for field in fields if not _value(field)]

    def request(self) -> dict[str, Any]:
        """The plan as the API takes it."""
        plan = _filled(self._plan)
        if not self._protects_subjects:
            for name in _OF_SUBJECTS:
                plan.pop(name, None)
        plan["adapter"] = self._adapter_request()
        plan["timing"] = _filled(self._timing)
        plan["public_passages"] = _lines(self._passages)
        return plan

    @property
    def unit(self) -> str:
        """Whom a plan of the chosen mode protects."""
        return "subject" if self._protects_subjects else "node"

    @property
    def _protects_subjects(self) -> bool:
        return bool(self._plan["mode"].value != "client")

    @property
    def _is_generator(self) -> bool:
        return bool(self._adapter["kind"].value == "generator")

    def _adapter_fields(self) -> None:
        self._choice(self._adapter, "kind", "Adapter", KINDS)
        self._text(self._adapter, "rank", "Rank", "4")
        self._text(
            self._adapter, "base_model", "Base model", self._base_models.get("retriever", ""),
            hint="As a node prints it: alcove federation models --json",
        ).classes("sm:col-span-2")  # fmt: skip
        self._text(self._adapter, "dimension", "Dimension of the vectors", "384")
        self._modules = self._area("Adapted layers", "One a line: name, inputs, outputs")
        self._modules.classes("sm:col-span-2")

    def _privacy_fields(self) -> None:
        self._choice(self._plan, "mode", "Mode", MODES).classes("sm:col-span-2")
        self._text(self._plan, "epsilon", "Epsilon of all rounds", "4", hint="The noise follows")
        self._text(self._plan, "delta", "Delta", hint="If empty: 1e-5 or less")
        self._text(
            self._plan, "planned_rows", "Planned subjects", hint="A public estimate of all nodes'"
        )
        self._text(self._plan, "sampling_rate", "Sampling rate", "0.05", hint="Of a subject")
        self._text(self._plan, "clip_norm", "Clip norm", "1")

    def _cohort_fields(self) -> None:
        self._text(self._plan, "rounds", "Rounds", "20")
        self._text(self._plan, "cohort", "Nodes in a round", "10")
        self._text(self._plan, "drop_out", "Share that may drop out", "0.2")
        self._text(self._plan, "colluders", "Colluding nodes", hint="If empty: a tenth")
        self._text(
            self._plan, "max_participations", "Rounds of one node", hint="If empty: all of them"
        )
        self._choice(self._plan, "threat_model", "Threat model", THREATS)

    def _adapter_request(self) -> dict[str, Any]:
        adapter = _filled(self._adapter)
        if self._is_generator:
            adapter.pop("dimension", None)
            adapter["modules"] = [
                dict(zip(_MODULE, line.replace(",", " ").split(), strict=False))
                for line in _lines(self._modules)
            ]
        return adapter

    def _adjust(self) -> None:
        """Show the fields that belong to the chosen mode and kind."""
        for name in _OF_SUBJECTS:
            self._plan[name].set_visibility(self._protects_subjects)
        self._adapter["dimension"].set_visibility(not self._is_generator)
        self._modules.set_visibility(self._is_generator)

    async def _chosen(self) -> None:
        self._adjust()
        await self._changed()

    def _group(self, title: str, columns: int = 2) -> ui.element:
        with ui.element("section").classes("w-full flex flex-col gap-2"):
            heading(title)
            wide = f" sm:grid-cols-{columns}" if columns > 1 else ""
            return ui.element("div").classes(f"w-full grid grid-cols-1{wide} gap-x-3 gap-y-1")

    def _text(
        self, of: dict[str, Any], name: str, label: str, value: str = "", hint: str = ""
    ) -> ui.input:
        field = ui.input(label, value=value, on_change=self._changed)
        field.props(f"outlined dense debounce={DEBOUNCE_MS} maxlength=500 hide-bottom-space")
        if hint:
            field.props["hint"] = hint
        of[name] = field
        return field

    def _choice(
        self, of: dict[str, Any], name: str, label: str, options: list[str] | dict[str, str]
    ) -> ui.select:
        first = next(iter(options), None)
        field = ui.select(options, value=first, label=label, on_change=self._chosen)
        of[name] = field.props("outlined dense options-dense")
        return field

    def _area(self, label: str, hint: str) -> ui.textarea:
        field = ui.textarea(label, on_change=self._changed)
        field.props(f"outlined dense autogrow debounce={DEBOUNCE_MS} input-class=max-h-40")
        field.props["hint"] = hint
        return field


def _value(field: Any) -> str:
    return str(field.value or "").strip()


def _filled(fields: dict[str, Any]) -> dict[str, Any]:
    """What was said; whatever was left empty gets the API's default."""
    return {name: value for name, field in fields.items() if (value := _value(field))}


def _lines(field: Any) -> list[str]:
    return [line.strip() for line in _value(field).splitlines() if line.strip()]
