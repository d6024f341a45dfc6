"""The node's pages: chat for users; documents, assistants and the federation for owners."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI

from api.node.auth import identify
from api.node.node import Node
from api.pages.install import Pages
from api.pages.install import install as install_pages
from api.pages.sessions import Sessions


def install(app: FastAPI, node: Node) -> None:
    """Serve them below /ui; at most once in a process."""
    pages = Pages(
        title="Alcove",
        hint="With the key that the owner of this assistant gave you.",
        home=node.home.root,
        is_secure=node.settings.is_secure,
        identify=partial(identify, node),
        define=_define,
    )
    install_pages(app, pages)


def _define(app: FastAPI, sessions: Sessions) -> None:
    # Imported only now: NiceGUI reads where to keep its files when it is imported.
    from api.node.pages import assistants, chat, documents, federation

    for page in (chat, documents, assistants, federation):
        page.define(app, sessions)
