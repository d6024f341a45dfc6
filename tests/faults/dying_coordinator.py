"""`alcove` that dies at a chosen point of a round: python -m ... POINT ARGUMENTS.

POINT is "STAGE computed" (the next state is worked out, nothing is stored), "STAGE written" (all of
it is written, nothing is committed), "STAGE committed", "upload moved" (a masked vector has its
name, its row is not committed) or "files left" (the round is over, its vectors are still there).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from sqlalchemy.orm import Session

from cli.main import main
from federation.coordinator import inbox, leases
from federation.coordinator.authority import Authority
from federation.coordinator.leases import Change, Taken
from federation.invitation import Stage
from storage.coordinator_home import CoordinatorHome
from storage.coordinator_tables import Round

STAGES = [stage for stage in Stage if not stage.is_over]
POINTS = [
    point
    for stage in STAGES
    for point in [
        *(["upload moved"] if stage is Stage.MASKED else []),
        f"{stage} computed",
        f"{stage} written",
        *(["files left"] if stage is Stage.UNMASKING else [f"{stage} committed"]),
    ]
]
"""In the order in which a round comes by."""

LEASE_SECONDS = 1.0
"""The dead hold a round no longer than that here, or a run through all points takes minutes."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    """Make this process die there."""
    commit, delete_vectors, sync = leases.commit, CoordinatorHome.delete_vectors, inbox.sync
    leases.LEASE_SECONDS = LEASE_SECONDS

    def dying_commit(authority: Authority, taken: Taken, change: Change) -> bool:
        stage = taken.round.stage
        if point == f"{stage} computed":
            die()

        def written(session: Session, round_: Round) -> None:
            change(session, round_)
            session.flush()
            if point == f"{stage} written":
                die()

        done = commit(authority, taken, written)
        if point == f"{stage} committed":
            die()
        return done

    def dying_delete(self: CoordinatorHome, round_id: str) -> None:
        if point == "files left" and self.round_vectors(round_id).exists():
            die()
        delete_vectors(self, round_id)

    def dying_sync(path: Path) -> None:
        sync(path)
        if point == "upload moved":
            die()

    leases.commit = dying_commit
    inbox.sync = dying_sync
    CoordinatorHome.delete_vectors = dying_delete  # type: ignore[method-assign]


if __name__ == "__main__":
    arm(sys.argv.pop(1))
    main()
