"""One assistant: what it is told, how long it remembers, what it learns, its end."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nicegui import ui

from api.node.pages.examples import Examples
from api.node.pages.feedback import WaitingFeedback
from api.node.pages.personal import Personal
from api.pages.actions import confirmed, working
from api.pages.client import Api, RefusedError
from api.pages.frame import heading
from api.pages.words import counted, moment

LONGEST_INSTRUCTIONS = 2_000


async def show_assistant(api: Api, name: str) -> None:
    """The parts of its page.

    Raises:
        RefusedError, SignedOutError: as `Api`.
    """
    path = f"/v1/assistants/{quote(name, safe='')}"
    try:
        assistant = await api.get(path)
    except RefusedError as error:
        ui.label(f"{str(error)[:1].upper()}{str(error)[1:]}.").classes("plain")
        ui.link("See those that there are", "/assistants")
        return
    _facts(assistant)
    _instructions(api, path, assistant)
    personal = Personal(api, path)
    await personal.show()
    learned = ui.column().classes("w-full gap-4")
    examples = Examples(api, path, assistant["name"])
    with learned:
        waiting = WaitingFeedback(api, path, on_changed=examples.show)
    await waiting.show()
    await examples.show()
    _conversations(api, path, assistant)
    _end(api, path, assistant)


def _facts(assistant: dict[str, Any]) -> None:
    name = assistant["name"]
    with ui.card().classes("panel gap-2"):
        heading(name)
        if assistant["description"]:
            ui.label(assistant["description"]).classes("plain")
        ui.label(
            f"{counted(assistant['documents'], 'document')}, "
            f"{counted(assistant['passages'], 'passage')}; made {moment(assistant['created_at'])}"
        ).classes("muted")
        with ui.row().classes("gap-4"):
            ui.link("Its documents", f"/documents?assistant={name}")
            ui.link("All assistants and keys", "/assistants")


def _instructions(api: Api, path: str, assistant: dict[str, Any]) -> None:
    with ui.card().classes("panel gap-3"):
        heading("Standing instruction")
        ui.label(
            "Language, tone, length, role: it stands in every prompt, in front of what the "
            "client says."
        ).classes("muted")
        field = (
            ui.textarea("Instruction", value=assistant["instructions"])
            .props(f"outlined autogrow counter maxlength={LONGEST_INSTRUCTIONS}")
            .classes("w-full")
        )

        async def save() -> None:
            async with working(button):
                await api.send("PATCH", path, {"instructions": field.value or ""})
                ui.notify("Saved: it holds from the next question on.", type="positive")

        button = ui.button("Save instruction", on_click=save).props("unelevated no-caps")


def _conversations(api: Api, path: str, assistant: dict[str, Any]) -> None:
    with ui.card().classes("panel gap-3"):
        heading("Conversations")
        ui.label(
            "Where they are kept, feedback can name an answer without quoting it. "
            "Empty: they are not kept, and those that were are erased."
        ).classes("muted")
        days = ui.number("Days to keep them", value=assistant["conversation_days"], min=1, max=3650)
        days.props("outlined dense clearable").classes("w-48")

        async def save() -> None:
            wanted = None if days.value is None else int(days.value)
            question = f"Keep conversations of “{assistant['name']}” no longer?"
            loss = "Those that were kept are erased."
            if wanted is None and await confirmed(question, loss, "Erase them") is None:
                return
            async with working(button):
                await api.send("PATCH", path, {"conversation_days": wanted})
                ui.notify("Saved.", type="positive")

        button = ui.button("Save days", on_click=save).props("unelevated no-caps")


def _end(api: Api, path: str, assistant: dict[str, Any]) -> None:
    name = assistant["name"]

    async def delete() -> None:
        everything = (
            f"{counted(assistant['documents'], 'document')}, its index, its personal adapter, its "
            "examples and feedback are erased. Keys that are bound to it see nothing more. "
            "This cannot be undone."
        )
        question = f"Delete the assistant “{name}”?"
        if await confirmed(question, everything, "Delete") is not None:
            async with working(button):
                await api.send("DELETE", path)
                ui.navigate.to("/assistants")

    with ui.card().classes("panel gap-3"):
        heading("Delete")
        ui.label("Erases the assistant with everything that belongs to it.").classes("muted")
        button = ui.button(f"Delete {name}", on_click=delete)
        button.props("outline no-caps color=negative")
