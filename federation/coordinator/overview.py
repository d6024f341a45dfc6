"""What staff may read: tokens, participants, populations, federations, rounds and versions.

Of rounds there are counts only: who left one, and why, is nobody's business.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.coordinator import federations
from federation.coordinator.authority import Authority
from federation.coordinator.refused import unknown
from federation.roster import Roster
from federation.signed import Signed
from privacy.signing import Domain
from storage.coordinator_tables import (
    Enrolment,
    Federation,
    Participant,
    Population,
    Receipt,
    Round,
    VersionRow,
)


def tokens(session: Session, population: str | None = None) -> Sequence[Enrolment]:
    """Enrolment tokens, newest first, without their secrets, which are not kept."""
    query = select(Enrolment).order_by(Enrolment.created_at.desc(), Enrolment.token_hash)
    if population is not None:
        query = query.where(Enrolment.population == population)
    return session.scalars(query).all()


def participants(session: Session, population: str | None = None) -> Sequence[Participant]:
    """Participants in every state, in the order in which they enrolled."""
    query = select(Participant).order_by(Participant.id)
    if population is not None:
        query = query.where(Participant.population == population)
    return session.scalars(query).all()


def participant(session: Session, participant_id: int) -> Participant:
    """One participant. Raises RefusedError: unknown_participant."""
    found = session.get(Participant, participant_id)
    if found is None:
        raise unknown("unknown_participant", f"there is no participant {participant_id}")
    return found


def populations(session: Session) -> Sequence[str]:
    """Names of all populations."""
    return sorted(session.scalars(select(Population.name)))


def population(session: Session, name: str) -> Population:
    """One population. Raises RefusedError: unknown_population."""
    found = session.get(Population, name)
    if found is None:
        raise unknown("unknown_population", f"there is no population {name!r}")
    return found


def roster(session: Session, authority: Authority, name: str) -> Roster:
    """The roster in force. Raises RefusedError: unknown_population."""
    signed = population(session, name).roster
    return Signed.from_bytes(signed, Roster, Domain.ROSTER, authority.identity).record


def all_federations(session: Session, population: str | None = None) -> Sequence[Federation]:
    """Federations by name, those of one population or all."""
    query = select(Federation)
    if population is not None:
        query = query.where(Federation.population == population)
    return sorted(session.scalars(query), key=lambda federation: federation.name)


def rounds(session: Session, federation: str, *, start: int, limit: int) -> Sequence[Round]:
    """Rounds of a federation, the newest first, from the `start`-th on.

    Raises:
        RefusedError: unknown_federation.
    """
    federations.get(session, federation)
    query = (
        select(Round)
        .where(Round.federation == federation)
        .order_by(Round.number.desc())
        .offset(start)
        .limit(limit)
    )
    return session.scalars(query).all()


def all_versions(session: Session, federation: str) -> Sequence[VersionRow]:
    """Versions of a federation, the oldest first. Raises RefusedError: unknown_federation."""
    federations.get(session, federation)
    query = select(VersionRow).where(VersionRow.federation == federation)
    return session.scalars(query.order_by(VersionRow.number)).all()


def receipts(session: Session, population: str) -> Sequence[bytes]:
    """The receipts of all rounds of a population, as participants have sent them."""
    query = (
        select(Receipt.receipt)
        .join(Round, Round.id == Receipt.round_id)
        .join(Federation, Federation.name == Round.federation)
        .where(Federation.population == population)
        .order_by(Receipt.round_id, Receipt.participant_id)
    )
    return session.scalars(query).all()
