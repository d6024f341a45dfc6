"""Messages that are refused: forged, replayed, late, in the wrong stage, of the wrong size."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select
from sqlalchemy import update as update_rows

from benchmarks.participants import Participant
from federation.coordinator import enrolment
from federation.invitation import Stage
from federation.messages import MessageHeader
from federation.secagg.client.machine import Client
from privacy.receipts import Receipt
from storage.coordinator_tables import Message, Round
from tests.coordinators import FEDERATION, Site, guests


@dataclass
class Answer:
    status: int
    code: str


def sent(place: Site, node: Participant, stage: Stage, body: bytes, signature: str = "") -> Answer:
    response = node.send(FEDERATION, place.round_id, stage, body, signature)
    code = response.json()["error"]["code"] if response.status_code >= 400 else ""
    return Answer(response.status_code, code)


def stored(place: Site, stage: Stage) -> int:
    with place.authority.database.read() as session:
        query = select(Message).where(Message.round_id == place.round_id, Message.stage == stage)
        return len(session.scalars(query).all())


STAGES = [stage for stage in Stage if not stage.is_over]


@pytest.mark.parametrize("stage", STAGES)
def test_only_the_right_message_at_the_right_time_is_stored(place: Site, stage: Stage) -> None:
    place.open_round()
    place.play(until=stage)
    node, other = place.participants[:2]
    round_id = place.round_id
    if stage is Stage.SURVIVORS:
        body = node.message(FEDERATION, round_id, stage)
        assert sent(place, node, stage, body) == Answer(409, "receipt_missing")
        assert node.countersign(round_id).status_code == 202
    else:
        body = node.message(FEDERATION, round_id, stage)

    header = MessageHeader.of(FEDERATION, round_id, stage, body)
    forged = [
        header.sign(other.key),
        MessageHeader.of("another", round_id, stage, body).sign(node.key),
        MessageHeader.of(FEDERATION, secrets.token_hex(16), stage, body).sign(node.key),
        MessageHeader.of(FEDERATION, round_id, Stage.FAILED, body).sign(node.key),
        MessageHeader.of(FEDERATION, round_id, stage, body + b".").sign(node.key),
    ]
    for signature in forged:
        assert sent(place, node, stage, body, signature) == Answer(403, "bad_signature")
    for another in STAGES:
        if another is not stage:
            assert sent(place, node, another, b"x").status in (400, 409)
    if stage is not Stage.ENLISTING:
        for wrong in (body[:-1], body + b"\0", b""):
            assert sent(place, node, stage, wrong).code == "wrong_size"
    before = stored(place, stage)
    assert sent(place, node, stage, body) == Answer(202, "")
    assert sent(place, node, stage, body) == Answer(202, "")
    assert stored(place, stage) == before + 1
    if stage is not Stage.ENLISTING:
        changed = body[:-1] + bytes([body[-1] ^ 1])
        assert sent(place, node, stage, changed) == Answer(409, "other_message")

    with place.authority.database.write() as session:
        session.execute(update_rows(Round).where(Round.id == round_id).values(deadline=1.0))
    late = other.message(FEDERATION, round_id, stage)
    assert sent(place, other, stage, late) == Answer(409, "wrong_stage")
    assert other.work() == []


def test_a_message_of_an_earlier_stage_is_late_and_its_repetition_is_not(place: Site) -> None:
    place.open_round()
    place.play(until=Stage.SHARES)
    node = place.participants[0]
    keys = node.entered[place.round_id].client.message
    assert sent(place, node, Stage.KEYS, keys) == Answer(202, "")
    place.play(until=Stage.MASKED)
    shares = node.message(FEDERATION, place.round_id, Stage.MASKED)
    assert sent(place, node, Stage.SHARES, shares).status in (400, 409)


def test_whoever_was_not_invited_has_no_message_to_send(place: Site) -> None:
    place.open_round()
    place.play(until=Stage.KEYS, drops={Stage.ENLISTING: place.participants[:1]})
    stranger, member = place.participants[:2]
    advertisement = member.message(FEDERATION, place.round_id, Stage.KEYS)
    assert stranger.work() == []
    assert sent(place, stranger, Stage.KEYS, advertisement) == Answer(403, "not_invited")
    path = f"/v1/participant/rounds/{place.round_id}/invitation"
    assert stranger.http.get(path).status_code == 404


def test_an_abort_is_taken_in_place_of_any_message_and_the_round_goes_on(place: Site) -> None:
    place.open_round()
    place.play(until=Stage.MASKED)
    leaver = place.participants[0]
    client: Client = leaver.entered[place.round_id].client
    assert sent(place, leaver, Stage.MASKED, client.leave()) == Answer(202, "")
    assert leaver.work() == []
    ended = place.play()
    assert (ended.stage, ended.survivors) == (Stage.RELEASED, len(place.participants) - 1)
    masked = leaver.http.get("/v1/participant/evidence").json()["masked"]
    assert place.round_id not in {one["round_id"] for one in masked}


def test_receipts_are_of_this_round_and_by_their_sender(place: Site) -> None:
    place.open_round()
    place.play(until=Stage.SURVIVORS)
    node, other = place.participants[:2]
    assert other.countersign(place.round_id).status_code == 202
    signed = Receipt.from_bytes(other.receipts[-1]).signed
    by_stranger = Receipt.countersign(signed, Ed25519PrivateKey.generate()).to_bytes()
    for wrong in (other.receipts[-1], by_stranger, b"{}", other.receipts[0]):
        assert node.send_receipt(place.round_id, wrong).status_code == 400
    own = Receipt.countersign(signed, node.key).to_bytes()
    assert node.send_receipt(place.round_id, own).status_code == 202
    assert node.send_receipt(place.round_id, own).status_code == 202


def test_a_revoked_participant_is_shut_out_at_once_and_the_round_goes_on(place: Site) -> None:
    with guests(place, 1) as (number,):
        guest = place.participants[-1]
        place.open_round()
        place.play(until=Stage.MASKED)
        body = guest.message(FEDERATION, place.round_id, Stage.MASKED)
        enrolment.revoke(place.authority, number)
        response = guest.send(FEDERATION, place.round_id, Stage.MASKED, body)
        assert response.status_code == 401
        reopened = guest.http.post("/v1/participant/sessions", content=guest.prove())
        assert (reopened.status_code, reopened.json()["error"]["code"]) == (403, "revoked")
    # Nobody waits for the one that was revoked.
    for node in place.participants:
        node.answer_all()
    place.turn()
    assert place.round().stage == Stage.SURVIVORS
    assert place.play().survivors == len(place.participants)
