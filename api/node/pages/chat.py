"""The page on which questions are asked and answers stream in."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Any

from fastapi import FastAPI, Request
from nicegui import ui

from api.node.pages.answer import AnswerView
from api.node.pages.links import BRAND, links
from api.pages.client import RefusedError
from api.pages.frame import BUILD_SECONDS, Open, frame, opened, told
from api.pages.sessions import Sessions

BUSY = "The node answers others just now and its queue is full. Ask again in a moment."
STARTING = "The node is still loading its models. Ask again in a moment."
STOPPED = "You stopped this answer."


def define(app: FastAPI, sessions: Sessions) -> None:
    @ui.page("/", response_timeout=BUILD_SECONDS)
    async def chat(request: Request) -> None:
        page = opened(app, sessions, request)
        with frame("Chat", links(page.visitor), BRAND):
            async with told():
                names = [model["id"] for model in (await page.api.get("/v1/models"))["data"]]
                if names:
                    Chat(page, names)
                else:
                    ui.label("There is no assistant that this key may ask.").classes("muted")


class Chat:
    """One conversation at a time; what was said is in the page and nowhere else, unless the owner
    has the node keep conversations."""

    def __init__(self, page: Open, names: list[str]) -> None:
        self._page = page
        self._asking: asyncio.Task[None] | None = None
        self._before: asyncio.Task[None] | None = None
        with ui.row().classes("w-full items-center gap-3"):
            self._assistant = ui.select(
                names, value=names[0], label="Assistant", on_change=self._begin
            ).classes("min-w-48")
            ui.button("New conversation", icon="add", on_click=self._begin).props("flat no-caps")
        # Read out as it grows.
        self._said = ui.column().classes("w-full gap-4").props("role=log aria-label=Conversation")
        with ui.row().classes("panel w-full items-end no-wrap gap-2 sticky bottom-2 !p-2"):
            self._question = (
                ui.textarea(label="Your question")
                .props("autogrow borderless autofocus maxlength=10000 input-class=max-h-40")
                .classes("grow px-2")
                # Shift and Enter begin a new line.
                .on("keydown.enter.exact.prevent", self._ask)
            )
            self._ask_button = ui.button("Ask", icon="send", on_click=self._ask)
            self._stop_button = ui.button("Stop", icon="stop", on_click=self._stop)
            for button in (self._ask_button, self._stop_button):
                button.props("unelevated no-caps")
        self._begin()
        # A window that was closed asks for nothing more.
        ui.context.client.on_delete(self._stop)

    def _begin(self) -> None:
        self._stop()
        # What is asked next waits for its end, since a node may answer one at a time.
        self._before, self._asking = self._asking or self._before, None
        self._show_busy()
        self._messages: list[dict[str, str]] = []
        self._chat_id = secrets.token_hex(16)
        self._said.clear()
        with self._said:
            ui.label(
                "Ask about the assistant's documents. Answers cite the passages that they stand on."
            ).classes("muted")

    async def _ask(self) -> None:
        question = str(self._question.value or "").strip()
        if not question or self._asking is not None:
            return
        if not self._messages:
            self._said.clear()
        self._question.set_value("")
        with self._said:
            with ui.element("section").classes("w-full").props("aria-label=Question"):
                ui.label(question).classes("plain font-semibold")
            view = AnswerView(self._page, self._assistant.value, question)
        asked = [*self._messages, {"role": "user", "content": question}]
        body = {"model": self._assistant.value, "messages": asked, "stream": True}
        self._asking = asyncio.create_task(self._answer(body, view))
        self._show_busy()
        with suppress(asyncio.CancelledError):
            await self._asking

    async def _answer(self, body: dict[str, Any], view: AnswerView) -> None:
        named = {"X-OpenWebUI-Chat-Id": self._chat_id}
        try:
            if self._before is not None:
                await asyncio.wait([self._before])
            # A task of its own has no place in the page.
            with self._said:
                async with told():
                    if await self._read(body, named, view):
                        answer = {"role": "assistant", "content": view.text}
                        self._messages = [*body["messages"], answer]
        except asyncio.CancelledError:
            view.end(STOPPED)
            raise
        finally:
            # Whoever began anew meanwhile has left it behind.
            if self._asking is asyncio.current_task():
                self._asking = None
                self._show_busy()

    async def _read(self, body: Any, headers: dict[str, str], view: AnswerView) -> bool:
        """Whether the answer came to its end."""
        try:
            async with self._page.api.events(
                "/v1/chat/completions", body, headers=headers
            ) as events:
                async for event in events:
                    view.take(event)
        except RefusedError as error:
            reasons = {"engine_busy": BUSY, "starting": STARTING}
            view.end(reasons.get(error.code, f"No answer: {error}."))
            return False
        view.end()
        return True

    def _stop(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    def _show_busy(self) -> None:
        is_busy = self._asking is not None
        self._ask_button.set_visibility(not is_busy)
        self._stop_button.set_visibility(is_busy)
