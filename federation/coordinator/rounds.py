"""A round as a durable state machine: everything that changes its stage is in this file.

    enlisting -> keys -> shares -> masked -> survivors -> unmasking -> released
    any of them -> failed(reason)

A stage ends when nobody is awaited or its deadline has passed. Whoever ends it takes a lease, works
the next state out of what is stored, outside any transaction, and commits it in one, where the
round's stage and revision are still what it has read. So of two workers that try one wins, and a
worker that is killed leaves nothing half done. The budget is charged in the transaction that makes
the request for unmasking readable, and in no other way is a sum opened.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import numpy as np
import structlog
from sqlalchemy import ColumnElement, and_, delete, exists, func, select
from sqlalchemy.orm import Session

from federation.adapter_spec import parameters_from_bytes, parameters_hash, parameters_to_bytes
from federation.coordinator import (
    federations,
    leases,
    pacing,
    populations,
    records,
    recovery,
    versions,
)
from federation.coordinator.authority import Authority
from federation.coordinator.leases import Change, Taken
from federation.invitation import Announcement, Invitation, Stage, round_config
from federation.optimiser import OptimiserState, step
from federation.plan import FederationPlan
from federation.roster import Roster
from federation.secagg import Refusal, Server
from federation.signed import Signed
from federation.versions import Version
from privacy.canonical import canonical_bytes
from privacy.encoding import decode
from privacy.receipts import RoundStatement, SignedStatement, survivors_hash
from privacy.records import to_json
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

PATIENCE_SECONDS = 600.0
"""After its deadline, in which a stage is tried again in spite of internal errors."""

log = structlog.get_logger()


class RoundFailedError(Exception):
    """The round cannot go on; the text is its public reason."""


def announce(authority: Authority, name: str) -> str | None:
    """Open a round of a federation that is due for one; its id, or None."""
    with authority.database.write() as session:
        federation = session.get(Federation, name)
        if federation is None:
            return None
        population = populations.lock(session, federation.population)
        session.refresh(federation, with_for_update=True)
        if not session.scalar(select(is_due()).where(Federation.name == name)):
            return None
        plan = federations.plan_of(federation, authority)
        if _count_approved(session, federation.population) < plan.privacy.min_survivors:
            return None
        slot = federations.next_slot(populations.budget(session, population.name), plan)
        if slot is None:
            federation.state = FederationState.FINISHED
            return None
        last = session.scalar(select(func.max(Round.number)).where(Round.federation == name))
        started = time.time()
        announcement = Announcement(
            federation=name,
            plan_hash=plan.hash,
            round_number=max(int(started), (last or 0) + 1),
            model_hash=versions.newest(session, name).parameters_hash,
            roster_hash=Signed.read(population.roster, Roster, Domain.ROSTER).record.hash,
        )
        session.add(
            Round(
                id=announcement.round_id,
                federation=name,
                number=announcement.round_number,
                slot=slot,
                stage=Stage.ENLISTING,
                deadline=started + plan.timing.enlist_seconds,
                started_at=started,
                announcement=_signed(authority, announcement),
            )
        )
        return announcement.round_id


def advance(authority: Authority, round_id: str) -> bool:
    """End the stage of a round if it is over; False if it is not, or another worker did it."""
    taken = leases.take(authority, round_id)
    if taken is None:
        return False
    try:
        if taken.is_stopped:
            raise RoundFailedError("the federation was stopped")
        change = _STEPS[Stage(taken.round.stage)](authority, taken)
        return leases.commit(authority, taken, change)
    except RoundFailedError as error:
        reason = str(error)
    except Refusal as refusal:
        # Its detail may tell one node from another; the ledger is public.
        reason = f"secure aggregation: {refusal.reason.name.lower().replace('_', ' ')}"
    except Exception:
        # What may pass, a full disk for one, gets another try when the lease has run out.
        if time.time() < taken.round.deadline + PATIENCE_SECONDS:
            raise
        log.exception("round given up", round_id=round_id)
        reason = "an internal error of the coordinator"
    return leases.commit(authority, taken, lambda s, r: _fail(s, authority, taken.plan, r, reason))


def is_due() -> ColumnElement[bool]:
    """Whether a federation should open a round now."""
    unfinished = exists().where(Round.federation == Federation.name, Round.ended_at.is_(None))
    return and_(
        Federation.state == FederationState.RUNNING,
        Federation.next_round_at <= time.time(),
        ~unfinished,
    )


def _close_enlisting(authority: Authority, taken: Taken) -> Change:
    """Choose who takes part, and begin secure aggregation."""
    receipts = [
        one for data in taken.messages.values() for one in records.read_receipts(data or b"")
    ]
    enlisted = [name for name, number in taken.identities.items() if number in taken.messages]
    terms = taken.plan.privacy
    chosen = secrets.SystemRandom().sample(enlisted, min(len(enlisted), terms.cohort))
    invitation = Invitation(taken.announcement, tuple(sorted(chosen)))
    failure = state = None
    if len(chosen) < terms.min_survivors:
        failure = f"{len(chosen)} nodes enlisted, {terms.min_survivors} are needed"
    else:
        state = Server(round_config(taken.plan, invitation)).save()

    def change(session: Session, round_: Round) -> None:
        populations.lock(session, taken.plan.population)
        found = recovery.recover(session, authority, taken.plan.population, receipts)
        reason = failure
        if found.is_pending:
            reason = "a receipt names a round that is not over yet"
        if found.is_lost:
            reason = "a receipt names a round that this coordinator has lost and cannot charge"
            federation = session.get_one(Federation, round_.federation)
            federation.state, federation.reason = FederationState.PAUSED, reason
        if reason is not None:
            _fail(session, authority, taken.plan, round_, reason)
            return
        round_.invitation = _signed(authority, invitation)
        round_.joined = len(invitation.members)
        round_.state = state
        # Membership; there is no server message that the keys answer.
        invited = {taken.identities[identity]: b"" for identity in invitation.members}
        _enter(session, taken.plan, round_, Stage.KEYS, invited)

    return change


def _close_collecting(authority: Authority, taken: Taken) -> Change:
    """Hand the stage's messages to secure aggregation and pass on what it answers."""
    server = _fed_server(authority, taken)
    server.close()
    state, outgoing = server.save(), _by_participant(taken, server)
    following = Stage(_FOLLOWING[Stage(taken.round.stage)])

    def change(session: Session, round_: Round) -> None:
        round_.state = state
        _enter(session, taken.plan, round_, following, outgoing)

    return change


def _close_masked(authority: Authority, taken: Taken) -> Change:
    """Add the vectors up and state, once and signed, whose are in the sum."""
    server = _fed_server(authority, taken)
    server.close()
    state, outgoing = server.save(), _by_participant(taken, server)
    members = taken.invitation.members
    survivors = survivors_hash(members[index] for index in server.survivors)

    def change(session: Session, round_: Round) -> None:
        statement = RoundStatement(
            population=taken.plan.population,
            federation=taken.plan.federation,
            round_id=round_.id,
            plan_hash=taken.plan.hash,
            survivors_hash=survivors,
            head=populations.head(session, taken.plan.population),
        )
        signed = SignedStatement.issue(statement, authority.key)
        round_.statement = canonical_bytes(to_json(signed))
        round_.survivors = len(server.survivors)
        round_.state = state
        _enter(session, taken.plan, round_, Stage.SURVIVORS, outgoing)

    return change


def _close_survivors(authority: Authority, taken: Taken) -> Change:
    """Charge the budget and, in the same transaction, ask for what opens the sum."""
    server = _fed_server(authority, taken)
    server.close()
    state, outgoing = server.save(), _by_participant(taken, server)

    def change(session: Session, round_: Round) -> None:
        plan = taken.plan
        populations.lock(session, plan.population)
        budget = populations.budget(session, plan.population)
        slot = federations.next_slot(budget, plan)
        if slot is None:
            reason = "no round of the plan is left in the budget"
            _fail(session, authority, plan, round_, reason)
            return
        events = budget.charge(plan.hash, federations.slot_name(plan.hash, slot))
        federations.record_events(session, plan.population, budget, events)
        round_.slot = slot
        round_.state = state
        _enter(session, plan, round_, Stage.UNMASKING, outgoing)

    return change


def _close_unmasking(authority: Authority, taken: Taken) -> Change:
    """Open the sum, which is paid for, and release the next version."""
    plan = taken.plan
    mean = decode(_fed_server(authority, taken).open().total, plan.privacy)
    with authority.database.read() as session:
        before = versions.newest(session, plan.federation, whole=True)
    if before.parameters_hash != taken.announcement.model_hash:
        raise ValueError("the newest version is not the one that the round was announced with")
    vector, moments = step(
        plan.optimiser,
        OptimiserState.from_bytes(before.moments, plan.adapter.dimension),
        parameters_from_bytes(before.parameters, plan.adapter),
        -mean if plan.rows_are_gradients else mean,
    )
    if not np.isfinite(vector).all():
        raise RoundFailedError("the step of the optimiser leaves the range of float32")
    parameters = parameters_to_bytes(vector)
    version = Version(
        federation=plan.federation,
        plan_hash=plan.hash,
        number=before.number + 1,
        spec_hash=plan.adapter.hash,
        base_model=plan.adapter.base_model,
        parameters_hash=parameters_hash(parameters),
        round_id=taken.round.id,
        previous=before.parameters_hash,
    )

    def change(session: Session, round_: Round) -> None:
        populations.lock(session, plan.population)
        versions.add(session, authority, version, parameters, moments)
        facts = records.released(
            session, plan, round_, before.parameters_hash, version.parameters_hash
        )
        populations.append_round(session, authority, plan.population, facts)
        _end(session, authority, plan, round_, Stage.RELEASED, None)

    return change


_STEPS: dict[Stage, Callable[[Authority, Taken], Change]] = {
    Stage.ENLISTING: _close_enlisting,
    Stage.KEYS: _close_collecting,
    Stage.SHARES: _close_collecting,
    Stage.MASKED: _close_masked,
    Stage.SURVIVORS: _close_survivors,
    Stage.UNMASKING: _close_unmasking,
}
_FOLLOWING = {Stage.KEYS: Stage.SHARES, Stage.SHARES: Stage.MASKED}


def _fed_server(authority: Authority, taken: Taken) -> Server:
    """The stored state with every stored message of this stage that it accepts."""
    if taken.round.state is None:
        raise ValueError(f"a round in stage {taken.round.stage} has no state")
    server = Server.restore(taken.round.state, round_config(taken.plan, taken.invitation))
    folder = authority.home.round_vectors(taken.round.id)
    for index, participant in enumerate(taken.members):
        if participant is None or participant not in taken.messages:
            continue
        payload = taken.messages[participant]
        try:
            if payload is None:
                payload = (folder / str(participant)).read_bytes()
            server.receive(index, payload)
        except (Refusal, FileNotFoundError):
            continue  # whoever sends what cannot be used has dropped out
    return server


def _by_participant(taken: Taken, server: Server) -> dict[int, bytes]:
    members = taken.members
    return {
        participant: message
        for index, message in server.outbox.items()
        if (participant := members[index]) is not None
    }


def _enter(
    session: Session, plan: FederationPlan, round_: Round, stage: Stage, outgoing: dict[int, bytes]
) -> None:
    """The next stage, in which exactly those who are sent something may answer."""
    timing = plan.timing
    round_.stage = stage
    round_.deadline = time.time() + timing.phase_seconds
    if stage is Stage.MASKED:
        # Vectors leave a fixed time after the round was announced, and not when they are done.
        leaving = round_.started_at + timing.enlist_seconds + timing.training_seconds
        round_.deadline = max(round_.deadline, leaving + timing.phase_seconds)
    session.add_all(
        Outgoing(round_id=round_.id, stage=stage, participant_id=number, payload=payload)
        for number, payload in outgoing.items()
    )


def _fail(
    session: Session, authority: Authority, plan: FederationPlan, round_: Round, reason: str
) -> None:
    """End a round that releases nothing. Only in stage UNMASKING it has been charged."""
    populations.lock(session, plan.population)
    charged = round_.stage == Stage.UNMASKING
    model = leases.read_announcement(round_).model_hash
    facts = records.aborted(session, plan, round_, model, charged, reason)
    populations.append_round(session, authority, plan.population, facts)
    _end(session, authority, plan, round_, Stage.FAILED, reason)


def _end(
    session: Session,
    authority: Authority,
    plan: FederationPlan,
    round_: Round,
    stage: Stage,
    reason: str | None,
) -> None:
    """Forget what was sent in the round, and say when the next one may begin."""
    now = time.time()
    round_.stage, round_.reason, round_.ended_at = stage, reason, now
    round_.state = None
    session.execute(delete(Outgoing).where(Outgoing.round_id == round_.id))
    # What stays is evidence of who sent a masked vector; its payload is a file, an abort's is not.
    is_evidence = and_(Message.stage == Stage.MASKED, Message.payload.is_(None))
    session.execute(delete(Message).where(Message.round_id == round_.id, ~is_evidence))
    federation = session.get_one(Federation, round_.federation, with_for_update=True)
    session.flush()
    federation.next_round_at = now + pacing.seconds_between(session, plan)
    budget = populations.budget(session, plan.population)
    if federation.state is FederationState.STOPPED:
        federations.release_rest(session, federation, budget)
    elif federations.next_slot(budget, plan) is None:
        federation.state = FederationState.FINISHED


def _count_approved(session: Session, population: str) -> int:
    query = select(func.count()).where(
        Participant.population == population, Participant.state == ParticipantState.APPROVED
    )
    return session.scalar(query) or 0


def _signed(authority: Authority, record: object) -> bytes:
    return Signed.issue(record, Domain.INVITATION, authority.key).to_bytes()
