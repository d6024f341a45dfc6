"""The coordinator's pages: a console for admins, budgets and the ledger for auditors."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI

from api.coordinator.auth import identify
from api.coordinator.coordinator import Coordinator
from api.pages.install import Pages
from api.pages.install import install as install_pages
from api.pages.sessions import Sessions


def install(app: FastAPI, coordinator: Coordinator) -> None:
    """Serve them below /ui; at most once in a process."""
    pages = Pages(
        title="Alcove coordinator",
        hint="With the key of an admin or an auditor.",
        home=coordinator.home.root,
        is_secure=coordinator.settings.is_secure,
        identify=partial(identify, coordinator),
        define=_define,
    )
    install_pages(app, pages)


def _define(app: FastAPI, sessions: Sessions) -> None:
    # Imported only now: NiceGUI reads where to keep its files when it is imported.
    from api.coordinator.pages import (
        budgets,
        ledger,
        participants,
        plan,
        rounds,
        statement,
        versions,
    )

    for page in (budgets, ledger, statement, participants, plan, rounds, versions):
        page.define(app, sessions)
