"""Sessions of participants: a challenge, signed by the identity key, gives a bearer token.

Challenges are not stored but carry the coordinator's own mark, so that asking for them costs it
nothing; a row is made when one is signed, and a second time its primary key refuses it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.orm import Session

from federation.coordinator.authority import Authority
from federation.coordinator.refused import RefusedError, conflict, forbidden, invalid
from federation.enrolment import SessionProof
from federation.signed import Signed, SignedError
from privacy.signing import Domain
from storage.coordinator_tables import Participant, ParticipantSession, ParticipantState

CHALLENGE_SECONDS = 60
SESSION_SECONDS = 3_600
MOST_SESSIONS = 8
"""Of one participant: a node needs one, and another after each restart."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The approved participant behind a session."""

    id: int
    identity: str
    population: str


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A bearer token, shown once, and the seconds for which it holds."""

    token: str
    expires_in: int

    def __repr__(self) -> str:
        return f"OpenedSession(expires_in={self.expires_in})"


def challenge(authority: Authority, identity: str) -> str:
    """A text that `identity` may sign within `CHALLENGE_SECONDS`."""
    body = f"{int(time.time()):010x}{secrets.token_hex(16)}"
    return body + _mark(authority, identity, body)


def open_session(authority: Authority, proof: bytes) -> OpenedSession:
    """The session of whoever signed a challenge of ours; the oldest end beyond `MOST_SESSIONS`.

    Args:
        proof: bytes of Signed[SessionProof] (`Domain.SESSION`).

    Raises:
        RefusedError: bad_proof, not_approved, revoked, unknown_identity; used_challenge.
    """
    signed = _read_proof(authority, proof)
    token = secrets.token_urlsafe(32)
    now = int(time.time())
    with authority.database.write() as session:
        # Locked, so that of two requests with one challenge the second sees what the first stored.
        query = select(Participant).where(Participant.identity == signed.identity)
        participant = session.scalars(query.with_for_update(key_share=True)).one_or_none()
        check_approved(participant)
        assert participant is not None  # noqa: S101 - check_approved refuses None
        # A session that was ended early stays as long as its challenge could be signed again.
        is_past = ParticipantSession.expires_at < now - CHALLENGE_SECONDS
        session.execute(delete(ParticipantSession).where(is_past))
        if session.get(ParticipantSession, signed.challenge) is not None:
            raise conflict("used_challenge", "the challenge was signed before: ask for another")
        _end_oldest(session, participant.id, now)
        session.add(
            ParticipantSession(
                challenge=signed.challenge,
                participant_id=participant.id,
                token_hash=_hash(token),
                expires_at=now + SESSION_SECONDS,
            )
        )
        participant.last_seen_at = now
    return OpenedSession(token, SESSION_SECONDS)


def authenticate(connection: Connection, token: str) -> Caller | None:
    """Whose session this is; None if there is none that holds, or its participant was revoked."""
    given = {"token_hash": _hash(token), "now": int(time.time())}
    row = connection.execute(_CALLER, given).one_or_none()
    return None if row is None else Caller(*row)


# Run for every request: made once.
_CALLER = (
    select(Participant.id, Participant.identity, Participant.population)
    .join(ParticipantSession, ParticipantSession.participant_id == Participant.id)
    .where(
        ParticipantSession.token_hash == bindparam("token_hash"),
        ParticipantSession.expires_at > bindparam("now"),
        Participant.state == ParticipantState.APPROVED,
    )
)


def end_all(session: Session, participant_id: int) -> None:
    """End every session of a participant, in the caller's transaction."""
    session.execute(
        delete(ParticipantSession).where(ParticipantSession.participant_id == participant_id)
    )


def check_approved(participant: Participant | None) -> None:
    """Refuse whoever may not have a session, saying what is missing."""
    if participant is None:
        raise forbidden("unknown_identity", "this identity is not enrolled here")
    if participant.state is ParticipantState.PENDING:
        raise forbidden("not_approved", "an admin has not approved this participant yet")
    if participant.state is ParticipantState.REVOKED:
        raise forbidden("revoked", "this participant was revoked")


def _end_oldest(session: Session, participant_id: int, now: int) -> None:
    """Make room for one more session of a participant."""
    surplus = (
        select(ParticipantSession.challenge)
        .where(
            ParticipantSession.participant_id == participant_id,
            ParticipantSession.expires_at > now,
        )
        .order_by(ParticipantSession.expires_at.desc(), ParticipantSession.challenge.desc())
        .offset(MOST_SESSIONS - 1)
    )
    ended = update(ParticipantSession).where(ParticipantSession.challenge.in_(surplus))
    session.execute(ended.values(expires_at=now))


def _read_proof(authority: Authority, proof: bytes) -> SessionProof:
    try:
        signed = Signed.read(proof, SessionProof, Domain.SESSION)
    except SignedError as error:
        raise invalid("bad_proof", str(error)) from error
    record = signed.record
    if signed.signer != record.identity or record.coordinator != authority.identity:
        raise _bad_proof("it names another identity or another coordinator than it should")
    body, mark = record.challenge[:42], record.challenge[42:]
    if not hmac.compare_digest(mark.encode(), _mark(authority, record.identity, body).encode()):
        raise _bad_proof("the challenge is not ours")
    if not 0 <= int(time.time()) - int(body[:10], 16) <= CHALLENGE_SECONDS:
        raise _bad_proof("the challenge is too old: ask for another")
    return record


def _bad_proof(message: str) -> RefusedError:
    return forbidden("bad_proof", message)


def _mark(authority: Authority, identity: str, body: str) -> str:
    key = HKDF(hashes.SHA256(), 32, None, b"alcove/v1/challenge-mark").derive(
        authority.key.private_bytes_raw()
    )
    return hmac.digest(key, f"{identity} {body}".encode(), hashlib.sha256).hex()


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
