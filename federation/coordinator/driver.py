"""The thread of each worker that opens due rounds and ends stages that are over."""

from __future__ import annotations

import threading

import structlog
from sqlalchemy import select

from federation.coordinator import pacing, rounds
from federation.coordinator.authority import Authority
from federation.coordinator.leases import is_stage_over
from storage.coordinator_tables import Federation, Round

log = structlog.get_logger()

TICK_SECONDS = 0.25


class Driver:
    """Runs from `start` until `stop`; any number of workers may have one each."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rounds", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when the work in hand is done; what is not done another worker will do."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            sweep(self._authority)
        except Exception:
            log.exception("vectors of rounds that are over could not be deleted")
        while not self._stopping.wait(TICK_SECONDS):
            try:
                turn(self._authority)
            except Exception:
                log.exception("rounds could not be looked at")


def turn(authority: Authority) -> bool:
    """Do all that is due now, once; whether anything was."""
    pacing.follow_clock(authority)
    with authority.database.look() as connection:
        over = select(Round.id).join(Federation, Federation.name == Round.federation)
        waiting = connection.scalars(over.where(is_stage_over())).all()
        due = connection.scalars(select(Federation.name).where(rounds.is_due())).all()
    done = False
    for round_id in waiting:
        try:
            done |= rounds.advance(authority, round_id)
        except Exception:
            log.exception("round not advanced", round_id=round_id)
    for name in due:
        try:
            done |= rounds.announce(authority, name) is not None
        except Exception:
            log.exception("round not opened", federation=name)
    return done


def sweep(authority: Authority) -> None:
    """Delete the vectors that a stop left of rounds that are over."""
    with authority.database.read() as session:
        unfinished = set(session.scalars(select(Round.id).where(Round.ended_at.is_(None))))
    for folder in list(authority.home.vectors.iterdir()):
        if folder.name not in unfinished:
            authority.home.delete_vectors(folder.name)
