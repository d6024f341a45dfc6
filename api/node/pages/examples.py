"""What an assistant learns from: questions with what answers them, labelled here or made."""

from __future__ import annotations

import json
from typing import Any

from nicegui import ui

from api.pages.actions import confirmed, working
from api.pages.client import Api
from api.pages.frame import heading, tell, told
from api.pages.parts import named
from api.pages.words import counted

SHOWN_AT_ONCE = 20
FOUND = 8
LONGEST_EXCERPT = 240
_ORIGINS = {"upload": "labelled", "feedback": "from feedback", "heading": "from a heading"}
_SHOWN = {"": "All", **{"upload": "Labelled", "feedback": "From feedback", "heading": "Headings"}}


class Examples:
    """The examples in pages, and a form that labels a new question."""

    def __init__(self, api: Api, path: str, assistant: str) -> None:
        self._api = api
        self._path = f"{path}/questions"
        self._wanted = SHOWN_AT_ONCE
        self._asked = 0
        with ui.card().classes("panel gap-3"):
            heading("Examples")
            ui.label(
                "Questions with the passages that answer them. The personal adapter learns from "
                "all of them; shared training sees no more than your consent allows."
            ).classes("muted")
            _Label(api, self._path, assistant, self)
            self._origin = ui.toggle(_SHOWN, value="", on_change=self._chosen)
            self._origin.props('no-caps unelevated role=group aria-label="Which examples"')
            self._caption = ui.label().classes("muted").props("role=status")
            self._list = ui.element("ul").classes("w-full list-none p-0 m-0")
            self._more = ui.button("Show more", on_click=self._show_more)
            self._more.props("outline no-caps")

    async def show(self) -> None:
        """Those that there are now, as many as before."""
        self._asked += 1
        asked = self._asked
        async with working(self._more):
            found, is_cut = await self._api.first(
                self._path, self._wanted, origin=self._origin.value or None
            )
            # An answer that a later call has overtaken is not shown.
            if asked == self._asked:
                self._show(found, is_cut)

    async def _chosen(self) -> None:
        self._wanted = SHOWN_AT_ONCE
        await self.show()

    async def _show_more(self) -> None:
        self._wanted += SHOWN_AT_ONCE
        await self.show()

    def _show(self, found: list[dict[str, Any]], is_cut: bool) -> None:
        self._list.clear()
        with self._list:
            for question in found:
                self._entry(question)
        self._more.set_visibility(is_cut)
        more = " or more" if is_cut else ""
        self._caption.set_text(
            counted(len(found), "example") + more if found else "There are none of these yet."
        )

    def _entry(self, question: dict[str, Any]) -> None:
        text = question["question"]
        with (
            ui.element("li")
            .classes("flex flex-wrap items-center gap-x-3 py-1")
            .style("border-top: 1px solid var(--line)")
        ):
            with ui.column().classes("gap-0 min-w-0").style("flex: 1 1 14rem"):
                ui.label(text).classes("plain")
                if question["answer"]:
                    ui.label(f"Answer: {question['answer']}").classes("plain text-sm")
                ui.label(_origin_of(question)).classes("muted text-sm")
            remove = ui.button("Remove", on_click=lambda: self._remove(question))
            named(remove.props("flat dense no-caps color=negative"), f"Remove {text}")

    async def _remove(self, question: dict[str, Any]) -> None:
        agreed = await confirmed(
            f"Remove “{question['question']}”?",
            "Versions of the personal adapter that learned from it go out of service and are "
            "trained again without it.",
            "Remove",
        )
        if agreed is not None:
            async with told():
                await self._api.send("DELETE", f"{self._path}/{question['id']}")
                await self.show()


class _Label:
    """A question, the passages that a search finds for it, and which of them answer it."""

    def __init__(self, api: Api, path: str, assistant: str, examples: Examples) -> None:
        self._api = api
        self._path = path
        self._assistant = assistant
        self._examples = examples
        self._relevant: dict[str, ui.checkbox] = {}
        with (
            ui.expansion("Label a question", icon="add").classes("w-full"),
            ui.column().classes("w-full gap-3"),
        ):
            self._question = ui.input("Question").props("outlined dense maxlength=10000")
            self._question.classes("w-full").on("keydown.enter", self._find)
            self._find_button = ui.button("Find passages", on_click=self._find)
            self._find_button.props("outline no-caps")
            self._found = ui.column().classes("w-full gap-2")
            self._answer = ui.textarea("Answer (optional)").props("outlined autogrow dense")
            self._answer.classes("w-full")
            self._save_button = ui.button("Save example", on_click=self._save)
            self._save_button.props("unelevated no-caps")

    async def _find(self) -> None:
        async with working(self._find_button):
            body = {"assistant": self._assistant, "query": self._question.value, "limit": FOUND}
            found = (await self._api.send("POST", "/v1/search", body))["data"]
            self._relevant.clear()
            self._found.clear()
            with self._found:
                ui.label(
                    "Which of them answer it?" if found else "No passage fits: add documents first."
                )
                for passage in found:
                    self._passage(passage)

    def _passage(self, passage: dict[str, Any]) -> None:
        text = passage["text"]
        with ui.row().classes("w-full items-start no-wrap gap-2"):
            box = ui.checkbox()
            named(box, f"{passage['name']}: {text[:80]}")
            self._relevant[passage["chunk_id"]] = box
            with ui.column().classes("gap-0 min-w-0"):
                ui.label(passage["name"]).classes("font-semibold plain")
                ui.label(text[:LONGEST_EXCERPT] + ("…" if len(text) > LONGEST_EXCERPT else ""))

    async def _save(self) -> None:
        relevant = [chunk for chunk, box in self._relevant.items() if box.value]
        if not relevant:
            tell("find passages and choose those that answer the question")
            return
        async with working(self._save_button):
            line = {"question": self._question.value, "relevant": relevant}
            if self._answer.value:
                line["answer"] = self._answer.value
            await self._api.send("POST", self._path, content=json.dumps(line).encode())
            for field in (self._question, self._answer):
                field.set_value("")
            self._relevant.clear()
            self._found.clear()
            ui.notify("It is an example now.", type="positive")
            await self._examples.show()


def _origin_of(question: dict[str, Any]) -> str:
    about = f"{_ORIGINS[question['origin']]}, {counted(len(question['relevant']), 'answer')} marked"
    if question["not_relevant"]:
        about += f", {len(question['not_relevant'])} marked as no answer"
    return about
