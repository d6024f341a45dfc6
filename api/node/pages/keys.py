"""The node's keys: made, shown once, changed and revoked."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from api.pages.actions import confirmed, working
from api.pages.client import Api, RefusedError
from api.pages.frame import heading, told
from api.pages.parts import copier, named
from api.pages.words import moment
from storage.node_tables import Scope

_SCOPES = {
    Scope.USER.value: "User: asks, searches and rates",
    Scope.OWNER.value: "Owner: manages documents and adapters too",
}
_TRUST = "Its feedback is learned from without being looked at"


class Keys:
    """All keys. `own` is the id of the key that looks at them."""

    def __init__(self, api: Api, own: str) -> None:
        self._api = api
        self._own = own
        with ui.card().classes("panel gap-3"):
            heading("Keys")
            self._caption = ui.label(
                "Whoever has a key asks the assistants that it is bound to, on these pages and "
                "with programs."
            ).classes("muted")
            self._new = ui.button("New key", icon="key", on_click=self._ask_new)
            self._new.props("unelevated no-caps")
            self._list = ui.element("ul").classes("w-full list-none p-0 m-0")
            with ui.expansion("Revoked keys").props("dense").classes("w-full") as self._past:
                self._revoked = ui.element("ul").classes("w-full list-none p-0 m-0")

    async def show(self) -> None:
        try:
            keys = (await self._api.get("/v1/keys"))["data"]
        except RefusedError as error:
            self._caption.set_text(f"Keys cannot be managed from here: {error}.")
            self._new.set_visibility(False)
            self._past.set_visibility(False)
            return
        valid = [key for key in keys if key["revoked_at"] is None]
        revoked = [key for key in keys if key["revoked_at"] is not None]
        self._list.clear()
        with self._list:
            for key in valid:
                self._valid(key)
        self._past.set_visibility(bool(revoked))
        self._revoked.clear()
        with self._revoked:
            for key in revoked:
                with ui.element("li").classes("py-1"):
                    ui.label(_label(key)).classes("plain")
                    ui.label(f"revoked {moment(key['revoked_at'])}").classes("muted text-sm")

    def _valid(self, key: dict[str, Any]) -> None:
        label = _label(key)
        with (
            ui.element("li")
            .classes("flex flex-wrap items-center gap-x-3 py-2")
            .style("border-top: 1px solid var(--line)")
        ):
            with ui.column().classes("gap-0 min-w-0").style("flex: 1 1 14rem"):
                is_own = " (you are signed in with it)" if key["id"] == self._own else ""
                ui.label(label + is_own).classes("font-semibold plain")
                ui.label(_reach(key)).classes("plain")
                ui.label(f"{key['id']} · made {moment(key['created_at'])}").classes("muted text-sm")
            with ui.row().classes("ml-auto gap-2"):
                change = ui.button("Change", on_click=lambda: self._change(key))
                named(change.props("flat dense no-caps"), f"Change {label}")
                revoke = ui.button("Revoke", on_click=lambda: self._revoke(key))
                named(revoke.props("flat dense no-caps color=negative"), f"Revoke {label}")

    async def _ask_new(self) -> None:
        async with told():
            names = [one["name"] for one in (await self._api.get("/v1/assistants"))["data"]]
            made = await _NewKey(self._api, names).ask()
            if made is not None:
                await self.show()
                _show_once(made)

    def _change(self, key: dict[str, Any]) -> None:
        title = f"Change {_label(key)}"
        with ui.dialog() as dialog, ui.card().classes("w-full max-w-lg"):
            named(dialog, title)
            heading(title).classes("plain")
            instructions = (
                ui.textarea("Standing instruction", value=key["instructions"])
                .props("outlined maxlength=2000 counter autogrow")
                .classes("w-full")
            )
            ui.label("Stands in every prompt of this key, after the assistant's own.").classes(
                "muted text-sm"
            )
            trusted = ui.checkbox(_TRUST, value=key["feedback_is_approved"])

            async def save() -> None:
                async with working(saver):
                    body = {
                        "instructions": instructions.value or "",
                        "feedback_is_approved": trusted.value,
                    }
                    await self._api.send("PATCH", f"/v1/keys/{key['id']}", body)
                    dialog.close()
                    await self.show()

            with ui.row().classes("w-full justify-end"):
                ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
                saver = ui.button("Save", on_click=save).props("unelevated no-caps")
        dialog.on_value_change(lambda event: None if event.value else dialog.delete())
        dialog.open()

    async def _revoke(self, key: dict[str, Any]) -> None:
        consequence = "Whoever uses it is locked out at once. This cannot be undone."
        if key["id"] == self._own:
            consequence += " You are signed in with it: you will need another one."
        question = f"Revoke “{_label(key)}”?"
        if await confirmed(question, consequence, "Revoke") is None:
            return
        async with told():
            await self._api.send("DELETE", f"/v1/keys/{key['id']}")
            await self.show()


class _NewKey:
    """A dialog that asks what a new key may do."""

    def __init__(self, api: Api, names: list[str]) -> None:
        self._api = api
        with ui.dialog() as self._dialog, ui.card().classes("w-full max-w-lg"):
            named(self._dialog, "New key")
            heading("New key")
            self._label = (
                ui.input("Whom or what it is for")
                .props("outlined dense maxlength=200 autofocus")
                .classes("w-full")
            )
            self._scope = (
                ui.select(_SCOPES, value=Scope.USER.value, label="What it may do")
                .props("outlined dense")
                .classes("w-full")
            )
            self._every = ui.checkbox("Every assistant, those to come too")
            self._names = (
                ui.select(names, value=names[:1], label="Assistants", multiple=True)
                .props("outlined dense use-chips")
                .classes("w-full")
                .bind_visibility_from(self._every, "value", backward=lambda every: not every)
            )
            self._trusted = ui.checkbox(_TRUST)
            with ui.row().classes("w-full justify-end"):
                ui.button("Cancel", on_click=self._dialog.close).props("flat no-caps")
                self._create = ui.button("Create key", on_click=self._send)
                self._create.props("unelevated no-caps")

    async def ask(self) -> dict[str, Any] | None:
        """The key that was made; None if none was."""
        made: dict[str, Any] | None = await self._dialog
        self._dialog.delete()
        return made

    async def _send(self) -> None:
        async with working(self._create):
            body = {
                "label": self._label.value,
                "scope": self._scope.value,
                "assistants": None if self._every.value else self._names.value,
                "feedback_is_approved": self._trusted.value,
            }
            self._dialog.submit(await self._api.send("POST", "/v1/keys", body))


def _show_once(made: dict[str, Any]) -> None:
    with ui.dialog().props("persistent") as dialog, ui.card().classes("w-full max-w-xl"):
        named(dialog, "The new key")
        heading("The new key")
        ui.label("Copy it now: the node keeps only a hash of it and cannot show it again.")
        ui.input("Key", value=made["key"]).props("outlined readonly").classes("w-full font-mono")

        with ui.row().classes("w-full justify-end"):
            copier(made["key"])
            ui.button("I have it", on_click=dialog.close).props("unelevated no-caps")
    dialog.on_value_change(lambda event: None if event.value else dialog.delete())
    dialog.open()


def _label(key: dict[str, Any]) -> str:
    return key["label"] or f"key {key['id']}"


def _reach(key: dict[str, Any]) -> str:
    whose = "every assistant" if key["assistants"] is None else ", ".join(key["assistants"])
    scope = "Manages" if key["scope"] == Scope.OWNER else "Asks"
    trust = "; its feedback is trusted" if key["feedback_is_approved"] else ""
    told_more = "; has a standing instruction" if key["instructions"] else ""
    return f"{scope} {whose or 'no assistant any more'}{trust}{told_more}"
