"""One answer: its text as it comes, its marks, the passages behind them, its rating."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from api.node.pages.passage import open_passage
from api.node.pages.rating import open_rating
from api.pages.frame import Open


class AnswerView:
    """An answer in the conversation, filled from the events of a streamed completion."""

    def __init__(self, page: Open, assistant: str, question: str) -> None:
        self._page = page
        self._assistant = assistant
        self._question = question
        self._completion_id = ""
        self._annotations: list[dict[str, Any]] = []
        self._sources: list[dict[str, Any]] = []
        self.text = ""
        with ui.element("section").classes("panel").props("aria-label=Answer"):
            self._body = ui.element("div").classes("w-full plain")
            self._below = ui.column().classes("w-full gap-2 mt-3")
        with self._body:
            self._streamed = ui.label("")
            self._waiting = ui.spinner("dots", size="2em").props('aria-label="Writing"')

    def take(self, event: dict[str, Any]) -> None:
        """The next event of the completion."""
        self._completion_id = event.get("id", self._completion_id)
        self._sources = event.get("sources", self._sources)
        for choice in event["choices"]:
            delta = choice["delta"]
            self._annotations += delta.get("annotations", [])
            if content := delta.get("content"):
                self.text += content
                self._streamed.set_text(self.text)

    def end(self, notice: str = "") -> None:
        """Nothing follows; a `notice` says why, where it is not the answer's end."""
        if self._body.is_deleted:
            return  # its conversation is over
        self._body.clear()
        with self._body:
            self._show_text()
        with self._below:
            if notice:
                ui.label(notice).props("role=status").classes("muted")
                return
            if self._sources:
                self._show_sources()
            self._show_thumbs()

    def _show_text(self) -> None:
        """The text with a button for each mark."""
        at = 0
        for annotation in self._annotations:
            citation = annotation["url_citation"]
            start, end = citation["start_index"], citation["end_index"]
            ui.label(self.text[at:start]).classes("inline")
            self._mark(self.text[start:end], citation)
            at = end
        ui.label(self.text[at:]).classes("inline")

    def _mark(self, text: str, citation: dict[str, Any]) -> None:
        chunk_id = _chunk_id(citation)
        mark = ui.element("button").classes("mark").props('type="button"')
        mark.props["aria-label"] = f"Passage {text}: {citation['title']}"
        mark.on("click", lambda: open_passage(self._page, self._assistant, chunk_id))
        with mark:
            ui.label(text).classes("inline")

    def _show_sources(self) -> None:
        cited = self._cited()
        with (
            ui.expansion(f"{len(self._sources)} passages were read")
            .classes("w-full")
            .props("dense header-class=px-0")
        ):
            for source in self._sources:
                chunk_id = source["chunk_id"]
                page = f", page {source['page']}" if source["page"] is not None else ""
                state = " (cited)" if chunk_id in cited else ""
                label = f"[{source['number']}] {source['heading'] or source['title']}{page}{state}"
                entry = ui.element("button").classes("mark block text-left my-1")
                entry.props('type="button"')
                entry.on("click", lambda _, name=chunk_id: self._open(name))
                with entry:
                    ui.label(label)

    async def _open(self, chunk_id: str) -> None:
        await open_passage(self._page, self._assistant, chunk_id)

    def _show_thumbs(self) -> None:
        with ui.row().classes("items-center gap-1"):
            for icon, name, rating in (
                ("thumb_up", "Good answer", 1),
                ("thumb_down", "Bad answer", -1),
            ):
                button = ui.button(icon=icon).props("flat round dense size=sm")
                button.props["aria-label"] = name
                button.on_click(lambda _, given=rating: self._rate(given))
            self._rated = ui.label("").classes("muted").props("role=status")

    def _cited(self) -> set[str]:
        return {_chunk_id(annotation["url_citation"]) for annotation in self._annotations}

    async def _rate(self, rating: int) -> None:
        given = {
            "assistant": self._assistant,
            "completion_id": self._completion_id,
            "question": self._question,
            "answer": self.text,
            "rating": rating,
        }
        if await open_rating(self._page, given, self._sources, self._cited()):
            self._rated.set_text("Thank you: your feedback was sent.")


def _chunk_id(citation: dict[str, Any]) -> str:
    path: str = citation["url"]
    return path.rpartition("/")[2]
