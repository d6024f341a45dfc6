"""The messages of a round, to and from participants."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from api.coordinator.auth import AuthorityDep, Participant
from api.coordinator.participant.schemas import (
    BYTES,
    JSON_BYTES,
    RAW_BODY,
    RawBody,
    RoundId,
    Signature,
    octets,
    stored_json,
)
from api.coordinator.participant.uploads import received
from api.errors import responses
from federation.coordinator import inbox, outbox
from federation.invitation import Stage
from federation.secagg.config import LARGEST_DIMENSION

router = APIRouter(prefix="/v1/participant", tags=["Rounds"], responses=responses(400, 401))

LARGEST_VECTOR = 4 * LARGEST_DIMENSION + 1_024
READ = responses(404)
WRITE = responses(403, 404, 409, 413)


class MaskedBody(BaseModel):
    """The participant's own signature under a masked vector that was taken."""

    federation: str
    round_id: str
    plan_hash: str
    payload_hash: str
    identity: str
    signature: str


class Evidence(BaseModel):
    """From which a node that was restored from a backup learns what it had spent."""

    receipts: list[dict[str, Any]]
    masked: list[MaskedBody]


@router.get("/rounds/{round_id}/announcement", response_class=Response, responses=JSON_BYTES | READ)
def announcement(authority: AuthorityDep, caller: Participant, round_id: RoundId) -> Response:
    """The signed announcement."""
    with authority.database.look() as connection:
        return stored_json(outbox.announcement(connection, caller, round_id))


@router.get("/rounds/{round_id}/invitation", response_class=Response, responses=JSON_BYTES | READ)
def invitation(authority: AuthorityDep, caller: Participant, round_id: RoundId) -> Response:
    """The signed invitation, for whoever was chosen."""
    with authority.database.look() as connection:
        return stored_json(outbox.invitation(connection, caller, round_id))


@router.get("/rounds/{round_id}/outgoing/{stage}", response_class=Response, responses=BYTES | READ)
def outgoing(
    authority: AuthorityDep, caller: Participant, round_id: RoundId, stage: Stage
) -> Response:
    """The message that the participant answers in this stage."""
    with authority.database.look() as connection:
        found = outbox.outgoing(connection, caller, round_id, stage)
    return octets(found)


@router.get("/rounds/{round_id}/statement", response_class=Response, responses=JSON_BYTES | READ)
def statement(authority: AuthorityDep, caller: Participant, round_id: RoundId) -> Response:
    """The coordinator's signed statement about the survivors, to be countersigned."""
    with authority.database.look() as connection:
        return stored_json(outbox.statement(connection, caller, round_id))


# Before the other stages: their limit of the body is not that of a vector.
@router.post(
    "/rounds/{round_id}/messages/masked",
    status_code=202,
    responses=WRITE | responses(429),
    openapi_extra=RAW_BODY,
    max_body_size=LARGEST_VECTOR,
)
async def post_masked(
    authority: AuthorityDep,
    caller: Participant,
    request: Request,
    round_id: RoundId,
    signature: Signature,
) -> Response:
    """Take a masked vector, which goes to disk as it comes, or an Abort."""
    expected = await to_thread.run_sync(inbox.expect_masked, authority, caller, round_id)
    async with received(request, expected) as upload:
        if upload.length == expected.length:
            await to_thread.run_sync(
                inbox.accept_masked,
                authority, caller, round_id, upload.path, upload.payload_hash, signature,
            )  # fmt: skip
        else:
            body = await to_thread.run_sync(upload.path.read_bytes)
            await to_thread.run_sync(
                inbox.accept, authority, caller, round_id, Stage.MASKED, body, signature
            )
    return Response(status_code=202)


@router.post(
    "/rounds/{round_id}/messages/{stage}",
    status_code=202,
    responses=WRITE,
    openapi_extra=RAW_BODY,
)
def post_message(
    authority: AuthorityDep,
    caller: Participant,
    round_id: RoundId,
    stage: Stage,
    signature: Signature,
    body: RawBody,
) -> Response:
    """Take a message of a stage; the very same again is no error."""
    inbox.accept(authority, caller, round_id, stage, body, signature)
    return Response(status_code=202)


@router.post("/rounds/{round_id}/receipt", status_code=202, responses=WRITE, openapi_extra=RAW_BODY)
def post_receipt(
    authority: AuthorityDep, caller: Participant, round_id: RoundId, body: RawBody
) -> Response:
    """Take the countersigned statement of the round."""
    inbox.accept_receipt(authority, caller, round_id, body)
    return Response(status_code=202)


@router.get("/evidence")
def evidence(authority: AuthorityDep, caller: Participant) -> Evidence:
    """Receipts and signatures of this participant, also under identities that it had before."""
    with authority.database.read() as session:
        receipts = [json.loads(receipt) for receipt in outbox.receipts(session, caller)]
        masked = outbox.masked_evidence(session, caller)
    return Evidence(receipts=receipts, masked=[MaskedBody(**asdict(one)) for one in masked])
