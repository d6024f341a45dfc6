"""Files on their way to the API: chosen or dropped, and sent by the browser itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from api.pages.door import PREFIX, SIGN_IN
from api.pages.words import counted

STYLE = """
.sender.q-uploader { width: 100%; max-height: none; background: none; box-shadow: none; }
.sender .q-uploader__header { display: none; }
.sender .q-uploader__list { min-height: 0; padding: 0; }
.drop { border: 2px dashed var(--line); border-radius: 10px; padding: 1rem; }
.dropping .drop { border-color: var(--q-primary); background: var(--soft); }
"""
SHOWN = 6

_SENDING = f"""
<div v-for="file in props.files.filter(f => ['idle', 'uploading'].includes(f.__status))
  .slice(0, {SHOWN})" :key="file.__key" class="q-mt-sm">
  <div class="plain">{{{{ file.name }}}}</div>
  <div class="muted text-sm">
    {{{{ file.__sizeLabel }}}}, {{{{ Math.floor(file.__progress * 100) }}}} % sent
  </div>
  <q-linear-progress :value="file.__progress" :aria-label="'Sending ' + file.name" rounded />
</div>
"""
_ANSWER = "(info) => emit(info.files.map(f => f.name), info.xhr.status, info.xhr.responseText)"
# A file that is dropped beside the field must not take the page's place.
_OVER = """(event) => {
  event.preventDefault();
  event.currentTarget.classList.add('dropping');
}"""
_LEAVE = """(event) => {
  if (!event.currentTarget.contains(event.relatedTarget))
    event.currentTarget.classList.remove('dropping');
}"""


class Sender:
    """A field that takes files and sends each in a request of its own.

    What is dropped anywhere in `zone` is taken too. `on_sent` is called after each file that the
    API accepted. Files that it refused are listed with its reason, and can be sent again.
    """

    def __init__(
        self,
        path: str,
        *,
        zone: ui.element,
        on_sent: Callable[[], Awaitable[None]],
        method: str = "POST",
        is_multiple: bool = True,
    ) -> None:
        ui.add_css(STYLE)
        self._on_sent = on_sent
        self._refused: list[tuple[str, str]] = []
        many = "multiple" if is_multiple else ""
        with ui.column().classes("drop w-full gap-0"):
            with ui.row().classes("items-center gap-3"):
                chooser = (
                    ui.element("input").props(f"type=file {many} tabindex=-1").classes("hidden")
                )
                choose = "Choose files" if is_multiple else "Choose a file"
                ui.button(choose, icon="upload_file").props("unelevated no-caps").on(
                    "click", js_handler=f"() => getHtmlElement({chooser.id}).click()"
                )
                ui.label("or drop them here" if is_multiple else "or drop it here").classes("muted")
            self._uploader = (
                ui.element("q-uploader")
                .classes("sender")
                .props(f"{many} auto-upload no-thumbnails flat field-name=file method={method}")
            )
            self._uploader.props["url"] = f"{PREFIX}/api{path}"
            self._uploader.add_slot("header", "<span></span>")
            self._uploader.add_slot("list", _SENDING)
            self._problems = ui.column().classes("w-full gap-1")
            self._problems.set_visibility(False)
        take = f"getElement({self._uploader.id}).addFiles"
        chooser.on(
            "change",
            js_handler=f"""(event) => {{
              {take}([...event.target.files]);
              event.target.value = '';
            }}""",
        )
        zone.on("dragover", js_handler=_OVER).on("dragleave", js_handler=_LEAVE)
        zone.on(
            "drop",
            js_handler=f"""(event) => {{
              event.preventDefault();
              event.currentTarget.classList.remove('dropping');
              {take}([...event.dataTransfer.files]);
            }}""",
        )
        self._uploader.on("uploaded", self._answered, js_handler=_ANSWER)
        self._uploader.on("failed", self._answered, js_handler=_ANSWER)
        self._uploader.on("finish", lambda: self._uploader.run_method("removeUploadedFiles"))

    async def _answered(self, event: GenericEventArguments) -> None:
        names, status, text = event.args
        if status == 202:
            await self._on_sent()
        elif status in (200, 401):
            # Without a session the door leads to the sign-in page, which is what was answered.
            ui.navigate.to(SIGN_IN)
        else:
            self._refused += [(name, _reason(status, text)) for name in names]
            self._show_problems()

    def _show_problems(self) -> None:
        self._problems.clear()
        self._problems.set_visibility(bool(self._refused))
        if not self._refused:
            return
        with self._problems:
            number = counted(len(self._refused), "file")
            ui.label(f"{number} could not be sent:").props("role=alert").classes("font-semibold")
            with ui.element("ul").classes("list-disc pl-6"):
                for name, reason in self._refused:
                    with ui.element("li"):
                        ui.label(f"{name}: {reason}").classes("plain")
            with ui.row():
                ui.button("Send again", on_click=lambda: self._settle("upload")).props(
                    "outline no-caps"
                )
                ui.button("Leave out", on_click=lambda: self._settle("removeQueuedFiles")).props(
                    "flat no-caps"
                )

    def _settle(self, method: str) -> None:
        self._refused.clear()
        self._show_problems()
        self._uploader.run_method(method)


def _reason(status: int, text: str) -> str:
    if status == 0:
        return "the connection was lost, or the file can be read no longer"
    try:
        answer: Any = json.loads(text)
        return str(answer["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return f"the server answered {status}"
