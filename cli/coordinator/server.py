"""A coordinator's workers: one process, or several that share a listening socket."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.supervisors import Multiprocess

from api.coordinator.app import app_from_environment
from api.coordinator.coordinator import Coordinator
from cli import logs
from cli.listening import Tls, uvicorn_config
from storage import keys, staff_keys
from storage.coordinator_tables import Role, StaffKey

if TYPE_CHECKING:
    from fastapi import FastAPI

PR_SET_PDEATHSIG = 1
PARENT = "ALCOVE_COORDINATOR_PARENT"
"""Tells a worker the process that has started it; not set where there is one process only."""


def serve(listener: socket.socket, workers: int, tls: Tls | None) -> None:
    """Serve the coordinator that ALCOVE_COORDINATOR_HOME names until SIGINT or SIGTERM."""
    app = "cli.coordinator.server:worker_app"
    config = uvicorn_config(app, tls, sockets=workers == 1, factory=True, workers=workers)
    if workers == 1:
        uvicorn.Server(config).run([listener])
    else:
        os.environ[PARENT] = str(os.getpid())
        Multiprocess(config, [listener]).run()


def worker_app() -> FastAPI:
    """What each worker serves."""
    alone = PARENT not in os.environ
    if not alone:
        logs.configure("server")
        _end_with_parent(int(os.environ[PARENT]))
    return app_from_environment(alone=alone)


@contextmanager
def session_key(coordinator: Coordinator) -> Iterator[str]:
    """An admin's key for the command line on this folder, for as long as the server runs."""
    with coordinator.database.write() as session:
        made = staff_keys.create(session, f"command line in {coordinator.home.root}", Role.ADMIN)
    try:
        yield made.token
    finally:
        forget_key(coordinator, made.token)


def forget_key(coordinator: Coordinator, token: str) -> None:
    """Delete a session key, that of a server that was killed for one."""
    with coordinator.database.write() as session:
        row = session.get(StaffKey, keys.split(token)[0])
        if row is not None:
            session.delete(row)


def _end_with_parent(parent: int) -> None:
    """A worker whose parent was killed would hold the port for ever (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(1)
