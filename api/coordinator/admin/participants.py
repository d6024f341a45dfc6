"""Participants: listed, approved, revoked."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from api.bodies import RowBody
from api.coordinator.auth import Admin, AuthorityDep, CoordinatorDep
from api.coordinator.coordinator import Coordinator
from api.coordinator.names import OfPopulation, ParticipantId
from api.errors import responses
from federation.coordinator import enrolment, overview
from federation.roster import fingerprint
from storage.coordinator_tables import Participant, ParticipantState

router = APIRouter(
    prefix="/v1/admin/participants", tags=["Enrolment"], responses=responses(400, 401, 403)
)


class ParticipantBody(RowBody):
    """`fingerprint` is the identity, to be compared with what the node's owner sees."""

    id: int
    population: str
    name: str
    state: ParticipantState
    identity: str
    fingerprint: str
    created_at: int
    last_seen_at: int | None


class ParticipantList(BaseModel):
    data: list[ParticipantBody]


@router.get("")
def list_participants(
    coordinator: CoordinatorDep, _admin: Admin, population: OfPopulation = None
) -> ParticipantList:
    """All participants, those that wait for approval and revoked ones too."""
    with coordinator.database.read() as session:
        return ParticipantList(
            data=[_body(found) for found in overview.participants(session, population)]
        )


@router.post("/{participant_id}/approve", responses=responses(404, 409))
def approve_participant(
    coordinator: CoordinatorDep,
    authority: AuthorityDep,
    _admin: Admin,
    participant_id: ParticipantId,
) -> ParticipantBody:
    """Let a participant in, once its fingerprint was compared with its owner's."""
    enrolment.approve(authority, participant_id)
    return _shown(coordinator, participant_id)


@router.post("/{participant_id}/revoke", responses=responses(404))
def revoke_participant(
    coordinator: CoordinatorDep,
    authority: AuthorityDep,
    _admin: Admin,
    participant_id: ParticipantId,
) -> ParticipantBody:
    """Shut a participant out at once and for ever."""
    enrolment.revoke(authority, participant_id)
    return _shown(coordinator, participant_id)


def _shown(coordinator: Coordinator, participant_id: int) -> ParticipantBody:
    with coordinator.database.read() as session:
        return _body(overview.participant(session, participant_id))


def _body(participant: Participant) -> ParticipantBody:
    return ParticipantBody.of(participant, fingerprint=fingerprint(participant.identity))
