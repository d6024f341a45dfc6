"""When the next round begins, also after the coordinator's wall clock was set back.

Deadlines are times of day, since workers and restarts share them. After the clock was set back by
an hour they would be an hour too far away: none may be further than its plan can have put it.
"""

from __future__ import annotations

import time

from sqlalchemy import and_, exists, or_, select
from sqlalchemy.orm import Session

from federation.coordinator import federations
from federation.coordinator.authority import Authority
from federation.invitation import Stage
from federation.plan import FederationPlan
from storage.coordinator_tables import Federation, FederationState, Round

PATIENCE = 3
"""Failed rounds after which the next one waits longer each time."""
LONGEST_WAIT = 3_600.0


def seconds_between(session: Session, plan: FederationPlan) -> float:
    """Seconds until the next round: longer while rounds fail, so that an idle night is not a
    ledger full of failures."""
    newest = (
        select(Round.stage)
        .where(Round.federation == plan.federation)
        .order_by(Round.number.desc())
        .limit(16)
    )
    failures = 0
    for stage in session.scalars(newest):
        if stage != Stage.FAILED:
            break
        failures += 1
    if failures < PATIENCE:
        return plan.timing.interval_seconds
    longer = plan.timing.enlist_seconds * 2.0 ** (failures - PATIENCE + 1)
    return plan.timing.interval_seconds + min(longer, LONGEST_WAIT)


def follow_clock(authority: Authority) -> None:
    """Bring what was put off by a clock that was ahead of the present one back within its plan."""
    now = time.time()
    began_later = and_(Round.ended_at.is_(None), Round.started_at > now)
    of_it = Round.federation == Federation.name
    waits_too_long = and_(
        Federation.state == FederationState.RUNNING,
        Federation.next_round_at > now,
        or_(exists().where(of_it, Round.ended_at > now), ~exists().where(of_it)),
    )
    with authority.database.read() as session:
        rounds = session.scalars(select(Round.id).where(began_later)).all()
        names = session.scalars(select(Federation.name).where(waits_too_long)).all()
        late = [name for name in names if _latest_start(session, authority, name, now) is not None]
    if not rounds and not late:
        return
    with authority.database.write() as session:
        for round_ in session.scalars(
            select(Round).where(Round.id.in_(rounds), began_later).with_for_update()
        ):
            plan = federations.plan_of(session.get_one(Federation, round_.federation), authority)
            timing = plan.timing
            longest = timing.enlist_seconds + timing.training_seconds + timing.phase_seconds
            round_.started_at = now
            round_.deadline = min(round_.deadline, now + longest)
        for name in late:
            federation = federations.get(session, name, lock=True)
            latest = _latest_start(session, authority, name, now)
            if latest is not None:
                federation.next_round_at = latest


def _latest_start(session: Session, authority: Authority, name: str, now: float) -> float | None:
    """When the next round begins at the latest; None if it is not put off beyond that."""
    federation = session.get_one(Federation, name)
    latest = now + seconds_between(session, federations.plan_of(federation, authority))
    is_later = federation.next_round_at is not None and federation.next_round_at > latest
    return latest if is_later else None
