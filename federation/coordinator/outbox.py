"""What a participant may read: its work, the messages to it, and the evidence it left here."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, bindparam, exists, or_, select
from sqlalchemy.orm import Session, undefer

from federation.coordinator.refused import unknown
from federation.coordinator.sessions import Caller
from federation.invitation import Stage
from storage.coordinator_tables import (
    Blob,
    Federation,
    FederationState,
    Message,
    Outgoing,
    Participant,
    ParticipantState,
    Population,
    Receipt,
    Round,
)


@dataclass(frozen=True, slots=True)
class Work:
    """A message that a participant may send now; `seconds_left` until it would be late."""

    federation: str
    round_id: str
    stage: Stage
    seconds_left: float


@dataclass(frozen=True, slots=True)
class MaskedEvidence:
    """A participant's own signature under a masked vector that was stored: it was debited."""

    federation: str
    round_id: str
    plan_hash: str
    payload_hash: str
    identity: str
    signature: str


def work(connection: Connection, caller: Caller) -> list[Work]:
    """What the participant may send and has not sent."""
    now = time.time()
    rows = connection.execute(_WORK, {"participant": caller.id, "now": now})
    return [Work(name, round_id, Stage(stage), at - now) for name, round_id, stage, at in rows]


def change_marker(connection: Connection) -> frozenset[tuple[str, str]]:
    """Differs from an earlier one where some participant may have new work."""
    return frozenset((round_id, stage) for round_id, stage in connection.execute(_MARKER))


def listing_markers(connection: Connection) -> dict[str, str]:
    """Of each population a text that differs from an earlier one where its roster, its federations
    or what they promote do."""
    listed: defaultdict[str, list[str]] = defaultdict(list)
    for name, *facts in connection.execute(_LISTINGS):
        listed[name].append(repr(facts))
    return {
        name: hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()[:32]
        for name, rows in listed.items()
    }


def announcement(connection: Connection, caller: Caller, round_id: str) -> bytes:
    """The signed announcement of a round of the participant's population.

    Raises:
        RefusedError: unknown_round.
    """
    return _round(connection, caller, round_id).announcement


def invitation(connection: Connection, caller: Caller, round_id: str) -> bytes:
    """The signed invitation, for those who are invited while the round lasts.

    Raises:
        RefusedError: unknown_round, not_invited.
    """
    found = _round(connection, caller, round_id, Stage.KEYS)
    if found.invitation is None or found.payload is None:
        raise unknown("not_invited", "you are not invited to this round, or it is over")
    return found.invitation


def outgoing(connection: Connection, caller: Caller, round_id: str, stage: Stage) -> bytes:
    """The server's message that the participant answers in this stage.

    Raises:
        RefusedError: unknown_round; no_message, there is none (yet, or any more).
    """
    found = _round(connection, caller, round_id, stage)
    if found.payload is None or stage is Stage.KEYS:
        raise unknown("no_message", f"there is no message to you for stage {stage}")
    return found.payload


def statement(connection: Connection, caller: Caller, round_id: str) -> bytes:
    """The signed statement about the round, canonical JSON.

    Raises:
        RefusedError: unknown_round; no_statement, its survivors are not settled.
    """
    found = _round(connection, caller, round_id)
    if found.statement is None:
        raise unknown("no_statement", "the survivors of this round are not settled")
    return found.statement


def federations(session: Session, caller: Caller) -> list[Federation]:
    """All federations of the participant's population, by name."""
    query = select(Federation).where(Federation.population == caller.population)
    return sorted(session.scalars(query), key=lambda found: found.name)


def federation(session: Session, caller: Caller, name: str) -> Federation:
    """One federation of the participant's population.

    Raises:
        RefusedError: unknown_federation.
    """
    found = session.get(Federation, name)
    if found is None or found.population != caller.population:
        raise unknown("unknown_federation", f"there is no federation {name!r}")
    return found


def roster(connection: Connection, caller: Caller) -> bytes:
    """The signed roster of the participant's population."""
    found: bytes = connection.execute(_ROSTER, {"population": caller.population}).scalar_one()
    return found


def blob(session: Session, name: str) -> bytes:
    """A public file by its SHA-256.

    Raises:
        RefusedError: unknown_blob.
    """
    found = session.get(Blob, name, options=[undefer(Blob.data)])
    if found is None:
        raise unknown("unknown_blob", "there is no file with this hash")
    return found.data


def receipts(session: Session, caller: Caller) -> list[bytes]:
    """Every receipt that the participant has given, under whatever identity, oldest first."""
    query = (
        select(Receipt.receipt)
        .join(Round, Round.id == Receipt.round_id)
        .where(Receipt.participant_id == caller.id)
        .order_by(Round.started_at)
    )
    return list(session.scalars(query))


def masked_evidence(session: Session, caller: Caller) -> list[MaskedEvidence]:
    """Every masked vector that was taken from the participant, oldest first."""
    query = (
        select(
            Round.federation,
            Round.id,
            Federation.plan_hash,
            Message.payload_hash,
            Message.identity,
            Message.signature,
        )
        .join(Round, Round.id == Message.round_id)
        .join(Federation, Federation.name == Round.federation)
        .where(
            Message.participant_id == caller.id,
            Message.stage == Stage.MASKED.value,
            Message.payload.is_(None),
        )
        .order_by(Round.started_at)
    )
    return [MaskedEvidence(*row) for row in session.execute(query)]


@dataclass(frozen=True, slots=True)
class _Round:
    """What a participant may read of a round; `payload` is sent to it in one stage."""

    announcement: bytes
    invitation: bytes | None
    statement: bytes | None
    payload: bytes | None


def _round(
    connection: Connection, caller: Caller, round_id: str, stage: Stage | None = None
) -> _Round:
    """Raises RefusedError: unknown_round."""
    given = {
        "round": round_id, "population": caller.population,
        "participant": caller.id, "stage": stage.value if stage else None,
    }  # fmt: skip
    row = connection.execute(_ROUND, given).one_or_none()
    if row is None:
        raise unknown("unknown_round", f"there is no round {round_id!r} for this participant")
    return _Round(*row)


def _in_this_stage(table: type[Outgoing] | type[Message]) -> ColumnElement[bool]:
    """Whether the participant has a row of this stage of the round."""
    return (
        exists()
        .where(
            table.round_id == Round.id,
            table.stage == Round.stage,
            table.participant_id == bindparam("participant"),
        )
        .correlate(Round)
    )


# Run all the time: made once.
_MARKER = select(Round.id, Round.stage).where(Round.ended_at.is_(None))
_LISTINGS = select(
    Population.name,
    Population.roster_version,
    Federation.plan_hash,
    Federation.state,
    Federation.promoted,
).outerjoin(Federation, Federation.population == Population.name)
_ROSTER = select(Population.roster).where(Population.name == bindparam("population"))
_ROUND = (
    select(Round.announcement, Round.invitation, Round.statement, Outgoing.payload)
    .join(Federation, Federation.name == Round.federation)
    .outerjoin(
        Outgoing,
        and_(
            Outgoing.round_id == Round.id,
            Outgoing.stage == bindparam("stage"),
            Outgoing.participant_id == bindparam("participant"),
        ),
    )
    .where(Round.id == bindparam("round"), Federation.population == bindparam("population"))
)
_WORK = (
    select(Round.federation, Round.id, Round.stage, Round.deadline)
    .join(Federation, Federation.name == Round.federation)
    .join(Participant, Participant.population == Federation.population)
    .where(
        Participant.id == bindparam("participant"),
        Participant.state == ParticipantState.APPROVED,
        Federation.state != FederationState.STOPPED,
        Round.ended_at.is_(None),
        Round.deadline > bindparam("now"),
        or_(Round.stage == Stage.ENLISTING.value, _in_this_stage(Outgoing)),
        ~_in_this_stage(Message),
    )
    .order_by(Round.started_at)
)
