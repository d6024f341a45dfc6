"""Taking a round to work on, and committing what came of it where nobody else was first."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.orm import Session, undefer

from federation.coordinator import federations
from federation.coordinator.authority import Authority
from federation.invitation import Announcement, Invitation, Stage
from federation.plan import FederationPlan
from federation.signed import Signed
from privacy.signing import Domain
from storage.coordinator_tables import (
    Federation,
    FederationState,
    Message,
    Outgoing,
    Participant,
    ParticipantState,
    Round,
)

LEASE_SECONDS = 20.0
"""A worker that takes longer may be joined by another, and the first to commit wins."""

Change = Callable[[Session, Round], None]
"""What a worker does to a round in the transaction that ends its stage."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A round whose stage is over, as it was read; `messages` by participant id."""

    round: Round
    plan: FederationPlan
    is_stopped: bool
    messages: dict[int, bytes | None]
    identities: dict[str, int]

    @property
    def announcement(self) -> Announcement:
        return read_announcement(self.round)

    @property
    def invitation(self) -> Invitation:
        if self.round.invitation is None:
            raise ValueError(f"nobody is invited in stage {self.round.stage}")
        return Signed.read(self.round.invitation, Invitation, Domain.INVITATION).record

    @property
    def members(self) -> list[int | None]:
        """Participants by their index in secure aggregation; None for one that is gone."""
        return [self.identities.get(identity) for identity in self.invitation.members]


def is_stage_over() -> ColumnElement[bool]:
    """Whether a round (joined with its federation) waits for a worker and not for participants."""
    now = time.time()
    answered = (
        exists()
        .where(
            Message.round_id == Round.id,
            Message.stage == Round.stage,
            Message.participant_id == Participant.id,
        )
        .correlate(Round, Participant)
    )
    approved = Participant.state == ParticipantState.APPROVED
    invited = (
        exists()
        .where(
            Outgoing.round_id == Round.id,
            Outgoing.stage == Round.stage,
            Outgoing.participant_id == Participant.id,
        )
        .correlate(Round, Participant)
    )
    may_enlist = and_(
        Round.stage == Stage.ENLISTING, Participant.population == Federation.population
    )
    awaited = (
        select(Participant.id)
        .where(approved, ~answered, or_(invited, may_enlist))
        .correlate(Round, Federation)
        .exists()
    )
    is_over = or_(Round.deadline <= now, Federation.state == FederationState.STOPPED, ~awaited)
    return and_(Round.ended_at.is_(None), is_over, is_free(now))


def is_free(now: float) -> ColumnElement[bool]:
    """Whether no worker holds a round: its lease ran out, or is from before the clock was set."""
    until = Round.lease_until
    return or_(until.is_(None), until <= now, until > now + 2 * LEASE_SECONDS)


def read_announcement(round_: Round) -> Announcement:
    """What was announced; this coordinator has signed it."""
    return Signed.read(round_.announcement, Announcement, Domain.INVITATION).record


def take(authority: Authority, round_id: str) -> Taken | None:
    """Lease a round whose stage is over, and read all that its next state follows from."""
    with authority.database.write() as session:
        # Locked before it is looked at: another worker may just be ending this very stage, and what
        # was seen of it would be taken for the state of the next one.
        session.execute(select(Round.id).where(Round.id == round_id).with_for_update())
        waiting = select(Round.id).join(Federation, Federation.name == Round.federation)
        query = waiting.where(Round.id == round_id, is_stage_over())
        if session.scalar(query) is None:
            return None
        now = time.time()
        lease = update(Round).where(Round.id == round_id, is_free(now))
        done = session.execute(lease.values(lease_until=now + LEASE_SECONDS))
        if not _changed(done):
            return None
    with authority.database.read() as session:
        round_ = session.get_one(Round, round_id, options=[undefer(Round.state)])
        federation = session.get_one(Federation, round_.federation)
        approved = select(Participant.identity, Participant.id).where(
            Participant.population == federation.population,
            Participant.state == ParticipantState.APPROVED,
        )
        sent = select(Message.participant_id, Message.payload).where(
            Message.round_id == round_id, Message.stage == round_.stage
        )
        return Taken(
            round_,
            federations.plan_of(federation, authority),
            federation.state is FederationState.STOPPED,
            {row[0]: row[1] for row in session.execute(sent)},
            {row[0]: row[1] for row in session.execute(approved)},
        )


def commit(authority: Authority, taken: Taken, change: Change) -> bool:
    """Apply a change where the round is still what was read; False if another worker was first."""
    with authority.database.write() as session:
        swap = update(Round).where(
            Round.id == taken.round.id,
            Round.stage == taken.round.stage,
            Round.revision == taken.round.revision,
        )
        done = session.execute(swap.values(revision=Round.revision + 1, lease_until=None))
        if not _changed(done):
            return False
        round_ = session.get_one(Round, taken.round.id)
        change(session, round_)
        is_over = Stage(round_.stage).is_over
    if is_over:
        authority.home.delete_vectors(taken.round.id)
    return True


def _changed(result: Any) -> bool:
    return bool(result.rowcount)
