"""What every page has: the head with its links, the width of the text, how refusals are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from fastapi import FastAPI, Request
from nicegui import app as nicegui_app
from nicegui import ui
from nicegui.events import GenericEventArguments

from api.pages.client import Api, RefusedError, SignedOutError
from api.pages.door import PREFIX, SESSION, SIGN_IN, SIGN_OUT
from api.pages.sessions import Sessions, Visitor

STYLE = """
:root { --muted: #55625f; --line: #d5dcda; --soft: #eef2f1; --link: #14655a; }
body { background: #f6f8f7; color: #1c2423; }
body.body--dark { --muted: #a3b1ae; --line: #39433f; --soft: #232b2b; --link: #7fd6c7;
  background: #14191a; color: #e8edec; }
.nicegui-link { color: var(--link); }
body.body--dark :is(.text-primary, .q-field, .q-checkbox) { --q-primary: var(--link); }
body.body--dark .text-negative { --q-negative: #ffb4ab; }
body.body--dark .text-positive { --q-positive: #8fd6a0; }
body.body--dark .text-warning { --q-warning: #e8b85a; }
.muted { color: var(--muted); }
.panel { width: 100%; background: var(--q-panel, #fff); border: 1px solid var(--line);
  border-radius: 10px; box-shadow: none; padding: 1rem; }
body.body--dark .panel { background: #1b2122; }
.mark { text-decoration: underline; text-underline-offset: 2px; cursor: pointer; border: 0;
  padding: 0 .1rem; background: none; color: inherit; font: inherit; font-weight: 600; }
.cited { background: #ffeeb0; color: #1c2423; padding: .5rem .7rem; border-radius: 6px; }
body.body--dark .cited { background: #5b4a08; color: #fff; }
.refusal { width: 100%; padding: .5rem .7rem; border-left: 4px solid var(--q-negative);
  background: var(--soft); }
.scrolled { width: 100%; overflow-x: auto; }
.scrolled .q-table__middle { overflow: visible; }
.scrolled .q-table__card { background: transparent; }
.accepted { color: #1d6b36; }
.refused { color: #a4160d; }
body.body--dark .accepted { color: #7fd6a0; }
body.body--dark .refused { color: #ff9d94; }
.rule + .rule { border-top: 1px solid var(--line); }
.plain { white-space: pre-wrap; overflow-wrap: anywhere; }
.alcove-head a { color: inherit; text-decoration: none; padding: .35rem .6rem; border-radius: 6px; }
.alcove-head a:hover, .alcove-head a[aria-current] { background: rgb(255 255 255 / .18); }
body.body--dark { color-scheme: dark; }
.q-loading-bar { display: none; }
:focus-visible { outline: 3px solid #e0a100 !important; outline-offset: 2px; }
"""

BUILD_SECONDS = 60.0
"""What a page that asks the API before it is shown has for it: a busy node takes its time."""

_EMIT_LEFT = "addEventListener('pagehide', event => event.persisted || emitEvent('left'))"
_EMIT_IS_DARK = "() => emit(document.body.classList.contains('body--dark'))"


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of the head: its label and its path below PREFIX."""

    label: str
    path: str


@dataclass(frozen=True, slots=True)
class Open:
    """A page that is open in somebody's browser."""

    visitor: Visitor
    api: Api


def opened(app: FastAPI, sessions: Sessions, request: Request) -> Open:
    """Who opened the page; the door let nobody else through."""
    session_id = request.session.get(SESSION)
    visitor = sessions.find(session_id)
    if visitor is None:
        raise RuntimeError("the door lets only sessions through")
    return Open(visitor, Api(app, lambda: sessions.find(session_id)))


@contextmanager
def frame(title: str, links: Sequence[Link], brand: str) -> Iterator[None]:
    """A page between its head and its end; what is made in the block is its content."""
    ui.page_title(f"{title} · {brand}")
    # One that was left is over at once; one whose device sleeps is waited for.
    ui.on("left", ui.context.client.delete)
    ui.run_javascript(_EMIT_LEFT)
    ui.add_css(STYLE)
    ui.colors(primary="#14655a", negative="#a4160d", positive="#1d6b36", warning="#8a5a00")
    # None, until somebody chooses: as the system has it.
    dark = ui.dark_mode(None).bind_value(nicegui_app.storage.user, "dark")

    def switch(click: GenericEventArguments) -> None:
        dark.set_value(not click.args)

    with ui.header().classes("alcove-head items-center gap-x-2 gap-y-0 px-4 py-2"):
        ui.label(brand).classes("font-bold mr-2")
        with ui.element("nav").props("aria-label=Pages").classes("flex flex-wrap"):
            for link in links:
                entry = ui.link(link.label, link.path)
                if link.label == title:
                    entry.props("aria-current=page")
        ui.space()
        # The click says how the page looks: what the system has is known in the browser alone.
        ui.button(icon="contrast").props(
            'flat round dense color=white aria-label="Light or dark"'
        ).on("click", switch, js_handler=_EMIT_IS_DARK)
        with ui.element("form").props(f'method=post action="{PREFIX}{SIGN_OUT}"'):
            ui.button("Sign out").props("flat dense no-caps color=white type=submit")
    with ui.column().classes("w-full max-w-5xl mx-auto gap-4 p-2 sm:p-4"):
        heading(title, 1)
        yield


def heading(text: str, level: int = 2) -> ui.label:
    """A heading of the page; the frame has made that of level 1."""
    size = {1: "text-2xl", 2: "text-lg"}.get(level, "text-base")
    shown = ui.label(text).props(f"role=heading aria-level={level}")
    return shown.classes(f"{size} font-semibold")


@asynccontextmanager
async def told() -> AsyncIterator[None]:
    """Tells a refusal to whoever looks at the page; one whose session is over signs in again."""
    # The place of what was pressed may be made anew meanwhile; the page stays.
    page = ui.context.client
    try:
        yield
    except RefusedError as error:
        with page:
            tell(str(error))
    except SignedOutError:
        page.open(SIGN_IN)


def tell(problem: str) -> None:
    """A problem that stays in view until it is closed."""
    ui.notify(
        f"{problem[:1].upper()}{problem[1:]}", type="negative", timeout=0, close_button="Close",
        multi_line=True,
    )  # fmt: skip
