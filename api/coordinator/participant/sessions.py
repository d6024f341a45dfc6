"""How a node becomes a participant, proves that it is one, and changes its key."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api.coordinator.auth import AuthorityDep, Participant
from api.coordinator.participant.schemas import RAW_BODY, Identity, RawBody
from api.errors import responses
from federation.coordinator import enrolment, sessions
from federation.coordinator.refused import invalid
from privacy.canonical import CanonicalError, canonical_bytes
from storage.coordinator_tables import ParticipantState

router = APIRouter(prefix="/v1", tags=["Participation"], responses=responses(400))

SignedRecord = dict[str, Any]


class EnrolmentRequest(BaseModel):
    """The token's secret, and the enrolment signed by the identity that it names."""

    secret: str = Field(pattern=r"^[A-Za-z0-9_-]{32}$")
    enrolment: SignedRecord


class EnrolmentState(BaseModel):
    state: ParticipantState


class ChallengeRequest(BaseModel):
    identity: Identity


class Challenge(BaseModel):
    challenge: str


class SessionBody(BaseModel):
    """`token` is shown this once; it holds for `expires_in` seconds."""

    token: str
    expires_in: int


class RotationRequest(BaseModel):
    """One rotation, signed by the old key and by the new one."""

    old: SignedRecord
    new: SignedRecord


@router.post("/enrolments", status_code=201, responses=responses(403, 409))
def enrol(authority: AuthorityDep, request: EnrolmentRequest, response: Response) -> EnrolmentState:
    """Enrol with a token; asked again by the same identity, its state (200)."""
    enrolled = enrolment.enrol(authority, request.secret, _canonical(request.enrolment))
    response.status_code = 201 if enrolled.is_new else 200
    return EnrolmentState(state=enrolled.state)


@router.post("/participant/challenges")
def challenge(authority: AuthorityDep, request: ChallengeRequest) -> Challenge:
    """A text that this identity may sign, once and soon, to open a session."""
    return Challenge(challenge=sessions.challenge(authority, request.identity))


@router.post(
    "/participant/sessions",
    status_code=201,
    responses=responses(403, 409),
    openapi_extra=RAW_BODY,
)
def open_session(authority: AuthorityDep, body: RawBody) -> SessionBody:
    """Open a session with a signed challenge."""
    opened = sessions.open_session(authority, body)
    return SessionBody(token=opened.token, expires_in=opened.expires_in)


@router.post("/participant/identity", responses=responses(401, 409))
def rotate(
    authority: AuthorityDep, caller: Participant, request: RotationRequest
) -> EnrolmentState:
    """Replace the identity key; all sessions end. Not while a round of this node lasts."""
    enrolment.rotate(authority, caller, _canonical(request.old), _canonical(request.new))
    return EnrolmentState(state=ParticipantState.APPROVED)


def _canonical(record: SignedRecord) -> bytes:
    try:
        return canonical_bytes(record)
    except CanonicalError as error:
        raise invalid("bad_record", str(error)) from error
