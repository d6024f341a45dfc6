"""Who is who: tokens, enrolment, approval, revocation, rotation, and the roster that follows."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from federation.coordinator import populations, sessions
from federation.coordinator.authority import Authority
from federation.coordinator.refused import conflict, forbidden, invalid, unknown
from federation.coordinator.sessions import Caller
from federation.enrolment import Enrolment, EnrolmentToken, Rotation
from federation.roster import Member, Roster
from federation.signed import Signed, SignedError
from privacy.signing import Domain
from storage.coordinator_tables import Enrolment as EnrolmentRow
from storage.coordinator_tables import (
    Message,
    OldIdentity,
    Participant,
    ParticipantState,
    Population,
    Round,
)

TOKEN_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The state of an enrolled identity; `is_new` where this very request has enrolled it."""

    state: ParticipantState
    is_new: bool


def issue_token(
    authority: Authority, population: str, label: str = "", seconds: int = TOKEN_SECONDS
) -> EnrolmentToken:
    """A token with which one node can enrol, once.

    Raises:
        RefusedError: unknown_population.
    """
    token = EnrolmentToken.fresh(authority.identity)
    with authority.database.write() as session:
        populations.lock(session, population)
        session.add(
            EnrolmentRow(
                token_hash=_hash(token.secret),
                population=population,
                label=label,
                expires_at=int(time.time()) + seconds,
            )
        )
    return token


def enrol(authority: Authority, secret: str, request: bytes) -> Enrolled:
    """Make whoever holds a token a pending participant.

    Args:
        secret: of the token.
        request: Signed[Enrolment] by the new identity (`Domain.ENROLMENT`).

    Raises:
        RefusedError: bad_enrolment; bad_token, expired_token, used_token; identity_known,
            name_taken.
    """
    record = _read_enrolment(authority, secret, request)
    with authority.database.write() as session:
        query = select(EnrolmentRow).where(EnrolmentRow.token_hash == record.token_hash)
        token = session.scalars(query.with_for_update()).one_or_none()
        if token is None:
            raise forbidden("bad_token", "there is no such enrolment token")
        if token.used_by is not None:
            used_by = session.get_one(Participant, token.used_by)
            if used_by.identity != record.identity:
                raise forbidden("used_token", "the enrolment token was used by another identity")
            return Enrolled(used_by.state, is_new=False)
        if token.expires_at <= time.time():
            raise forbidden("expired_token", "the enrolment token has expired: ask for another")
        # Two nodes that choose one name at once are told apart here.
        populations.lock(session, token.population)
        participant = _new_participant(session, token.population, record)
        token.used_by = participant.id
    return Enrolled(ParticipantState.PENDING, is_new=True)


def approve(authority: Authority, participant_id: int) -> None:
    """Let a pending participant in; approving it again changes nothing.

    Raises:
        RefusedError: unknown_participant; revoked, which is for ever.
    """
    with authority.database.write() as session:
        participant, population = _locked(session, participant_id)
        if participant.state is ParticipantState.REVOKED:
            raise conflict("revoked", "a revoked participant has to enrol anew")
        if participant.state is ParticipantState.PENDING:
            participant.state = ParticipantState.APPROVED
            _reissue_roster(session, authority, population)


def revoke(authority: Authority, participant_id: int) -> None:
    """Shut a participant out at once and for ever; it drops out of the round it is in.

    Raises:
        RefusedError: unknown_participant.
    """
    with authority.database.write() as session:
        participant, population = _locked(session, participant_id)
        was_approved = participant.state is ParticipantState.APPROVED
        participant.state = ParticipantState.REVOKED
        sessions.end_all(session, participant_id)
        if was_approved:
            _reissue_roster(session, authority, population)


def rotate(authority: Authority, caller: Caller, old: bytes, new: bytes) -> None:
    """Replace the caller's identity; its sessions end.

    Args:
        old, new: one Rotation, signed by the old key and by the new one (`Domain.ROTATION`).

    Raises:
        RefusedError: bad_rotation; identity_known; in_round, not before its round is over.
    """
    try:
        by_old = Signed.from_bytes(old, Rotation, Domain.ROTATION, caller.identity)
        by_new = Signed.from_bytes(new, Rotation, Domain.ROTATION, by_old.record.new)
    except SignedError as error:
        raise invalid("bad_rotation", str(error)) from error
    rotation = by_old.record
    expected = Rotation(authority.identity, caller.identity, rotation.new)
    if rotation != expected or by_new.record != expected:
        raise invalid("bad_rotation", "the two keys have signed different rotations")
    with authority.database.write() as session:
        participant, population = _locked(session, caller.id)
        if participant.identity != caller.identity:
            raise conflict("identity_known", "the identity was rotated already")
        if is_in_round(session, caller.id):
            raise conflict("in_round", "the identity can be changed when its round is over")
        _check_unknown(session, rotation.new)
        session.add(OldIdentity(identity=rotation.old, participant_id=caller.id))
        participant.identity = rotation.new
        sessions.end_all(session, caller.id)
        _reissue_roster(session, authority, population)


def is_in_round(session: Session, participant_id: int) -> bool:
    """Whether a participant has sent a message in a round that is not over."""
    query = (
        select(Message.round_id)
        .join(Round, Round.id == Message.round_id)
        .where(Message.participant_id == participant_id, Round.ended_at.is_(None))
    )
    return bool(session.scalar(select(exists(query))))


def identities(session: Session, participant_id: int) -> frozenset[str]:
    """Every identity that a participant has had, the present one included."""
    old = select(OldIdentity.identity).where(OldIdentity.participant_id == participant_id)
    present = select(Participant.identity).where(Participant.id == participant_id)
    return frozenset(session.scalars(old.union_all(present)))


def _read_enrolment(authority: Authority, secret: str, request: bytes) -> Enrolment:
    try:
        signed = Signed.read(request, Enrolment, Domain.ENROLMENT)
    except SignedError as error:
        raise invalid("bad_enrolment", str(error)) from error
    record = signed.record
    if (record.identity, record.coordinator) != (signed.signer, authority.identity):
        raise invalid("bad_enrolment", "it names another identity or another coordinator")
    if record.token_hash != _hash(secret):
        raise invalid("bad_enrolment", "it was signed for another token")
    return record


def _new_participant(session: Session, population: str, record: Enrolment) -> Participant:
    _check_unknown(session, record.identity)
    taken = select(Participant.id).where(
        Participant.population == population, Participant.name == record.name
    )
    if session.scalar(taken) is not None:
        raise conflict("name_taken", f"there is a participant {record.name!r} already")
    participant = Participant(population=population, name=record.name, identity=record.identity)
    session.add(participant)
    session.flush()
    return participant


def _check_unknown(session: Session, identity: str) -> None:
    known = select(Participant.id).where(Participant.identity == identity)
    if session.scalar(known) is not None or session.get(OldIdentity, identity) is not None:
        raise conflict("identity_known", "this identity is or was enrolled: make a new key")


def _locked(session: Session, participant_id: int) -> tuple[Participant, Population]:
    """A participant, and its population, locked so that rosters follow each other."""
    participant = session.get(Participant, participant_id)
    if participant is None:
        raise unknown("unknown_participant", f"there is no participant {participant_id}")
    population = populations.lock(session, participant.population)
    session.refresh(participant)
    return participant, population


def _reissue_roster(session: Session, authority: Authority, population: Population) -> None:
    session.flush()
    approved = session.execute(
        select(Participant.name, Participant.identity).where(
            Participant.population == population.name,
            Participant.state == ParticipantState.APPROVED,
        )
    )
    # Sorted here: databases differ in how they order texts.
    members = tuple(sorted((Member(*row) for row in approved), key=lambda m: m.identity))
    population.roster_version += 1
    roster = Roster(population.name, population.roster_version, members)
    population.roster = Signed.issue(roster, Domain.ROSTER, authority.key).to_bytes()


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
