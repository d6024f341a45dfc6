"""A node's part in federations as a process that a test kills, with a journal of what it did.

The journal is written through to disk before the node goes on, so it never knows less than anybody
outside. The node has no documents, and its embedder is a stand-in: its rows are noise alone, and
its vectors are as secret and as exact as any. All that decides and sends is the node's own code.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import threading
from pathlib import Path
from typing import Any

import federation.participant.rounds as rounds_module
from federation.invitation import Stage
from federation.odometer_file import OdometerFile
from federation.participant.coordinator_client import CoordinatorClient
from federation.participant.identity import FederationHome
from federation.participant.rounds import Rounds
from federation.participant.service import FederationService
from federation.participant.trainer import Trainer
from storage.settings import NodeSettings
from tests.faults import clocks
from tests.faults.killed import Embedder, opened

ROOM = 10
"""Bytes of a line of the odometer that still fit."""


def take_part(home: str, clock: str | None = None, full: bool = False) -> None:
    """Take part until killed.

    Args:
        clock: file that says how wrong the clock is.
        full: whether the disk has room for a few more bytes only when a round is debited.
    """
    root = Path(home)
    if clock is not None:
        clocks.set_wrong(Path(clock))
    _keep_journal(journal(root))
    if full:
        _fill_disk(FederationHome(root / "federation").odometer)
    with opened(root) as (database, library):
        service = FederationService(database, root)
        embedder: Any = Embedder()
        service.start(NodeSettings(home=root), embedder, library, None, participate=True)
        threading.Event().wait()


def journal(root: Path) -> Path:
    return root.parent / f"{root.name}.journal"


def _fill_disk(odometer: Path) -> None:
    debit = OdometerFile.debit

    def debit_without_room(self: OdometerFile, *given: Any) -> bool:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (odometer.stat().st_size + ROOM, hard))
        try:
            return debit(self, *given)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    OdometerFile.debit = debit_without_room  # type: ignore[method-assign]


def _keep_journal(path: Path) -> None:
    """Note each vector before it is masked, and each message before it leaves."""
    encode, masked, send = rounds_module.encode, Rounds._masked, CoordinatorClient.send
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    masking: list[str] = []

    def note(**what: str) -> None:
        os.write(descriptor, json.dumps(what).encode() + b"\n")
        os.fsync(descriptor)

    def noting_masked(self: Rounds, round_id: str, *given: Any) -> bytes:
        masking[:] = [round_id]
        return masked(self, round_id, *given)

    def noting_encode(*given: Any) -> Any:
        vector = encode(*given)
        note(what="vector", round_id=masking[0], value=vector.tobytes().hex())
        return vector

    def noting_send(
        self: CoordinatorClient, federation: str, round_id: str, stage: Stage, body: bytes
    ) -> None:
        note(what=stage.value, round_id=round_id, value=hashlib.sha256(body).hexdigest())
        send(self, federation, round_id, stage, body)

    rounds_module.encode = noting_encode
    Rounds._masked = noting_masked  # type: ignore[method-assign]
    CoordinatorClient.send = noting_send  # type: ignore[method-assign]
    # Without documents there is nothing to train; the process would load a model all the same.
    Trainer.start = lambda _self: None  # type: ignore[method-assign]
