"""A node without documents in one round, as a process that a test may have die at a chosen point.

Run as a module with FOLDER and perhaps POINT as its arguments. It prints the SHA-256 of each
masked message that it makes or finds stored.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import select

from federation.invitation import Stage
from federation.odometer_file import OdometerFile
from federation.participant.consent import Consent
from federation.participant.coordinator_client import CoordinatorClient
from federation.participant.identity import FederationHome, load_identity
from federation.participant.recovery import recover
from federation.participant.rounds import LeftError, NotNowError, Rounds, Standing
from federation.participant.trainer import Trainer, TrainingTask
from federation.participant.versions import VersionSource
from federation.secagg import Client
from retrieval.examples import ExampleSource
from storage.database import Database
from storage.membership_tables import Contribution, KnownPlan, Membership, Outcome
from tests.federation.participant.plans import BASIS, PUBLIC_TEXTS
from tests.nodes import open_database


def play(folder: Path, database: Database) -> None:
    """Take part until the round is over for this node."""
    home = FederationHome(folder / "federation")
    odometer = Consent(database, home).open_odometer()
    with database.read() as session:
        membership = session.scalars(select(Membership)).one()
    identity = load_identity(home, membership.identity)
    client = CoordinatorClient(membership.url, membership.coordinator, identity)
    source = ExampleSource(database, home.secret())
    rounds = Rounds(client, identity, database, home, odometer, source, lambda _plan: ())
    roster, _ = client.roster()
    standing = Standing(
        membership.id, roster.population, roster.hash, frozenset(m.identity for m in roster.members)
    )
    signed = client.plan("questions")
    plan = signed.record
    with database.write() as session:
        if session.get(KnownPlan, plan.hash) is None:
            row = KnownPlan(
                plan_hash=plan.hash, membership_id=membership.id, federation=plan.federation,
                plan=signed.to_bytes(),
            )  # fmt: skip
            session.add(row)
    own = [membership.identity]
    proved = recover(
        odometer, client.evidence(), own, membership.coordinator, lambda _federation: plan
    )
    rounds.abandon_before_masked(proved)
    trainer = Trainer(TrainingTask(plan, BASIS, PUBLIC_TEXTS, "packaged"))
    versions = VersionSource(client, plan)
    while not is_over(database):
        for work in client.work(0.5).works:
            try:
                if work.stage is Stage.ENLISTING:
                    rounds.enlist(work, plan, standing, versions, trainer)
                else:
                    rounds.answer(work, plan, standing, versions, trainer)
            except NotNowError:
                time.sleep(0.05)
            except LeftError as error:
                print("left", error, flush=True)


def is_over(database: Database) -> bool:
    with database.read() as session:
        found = session.scalars(select(Contribution.outcome)).all()
    return any(outcome in (Outcome.FINISHED, Outcome.LEFT) for outcome in found)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str | None) -> None:
    """Make the process die at `point`: "before debit", "after debit" or "after STAGE"."""
    mask, debit, send = Client.mask, OdometerFile.debit, CoordinatorClient.send

    def printing_mask(self: Client, *arguments: Any) -> bytes:
        message = mask(self, *arguments)
        print("masked", hashlib.sha256(message).hexdigest(), flush=True)
        return message

    def dying_debit(self: OdometerFile, *arguments: Any) -> bool:
        if point == "before debit":
            die()
        fresh = debit(self, *arguments)
        if point == "after debit":
            die()
        return fresh

    def dying_send(
        self: CoordinatorClient, federation: str, round_id: str, stage: Stage, body: bytes
    ) -> None:
        send(self, federation, round_id, stage, body)
        if point == f"after {stage}":
            die()

    Client.mask = printing_mask  # type: ignore[method-assign]
    OdometerFile.debit = dying_debit  # type: ignore[method-assign]
    CoordinatorClient.send = dying_send  # type: ignore[method-assign]


if __name__ == "__main__":
    arm(sys.argv[2] if len(sys.argv) > 2 else None)
    with open_database(Path(sys.argv[1]) / "node.db") as opened:
        play(Path(sys.argv[1]), opened)
