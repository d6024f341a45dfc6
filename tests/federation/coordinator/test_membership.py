"""Who is who: tokens, approval, rosters, rotation and sessions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, select
from sqlalchemy import update as update_rows

from benchmarks.participants import Participant
from federation.coordinator import enrolment, sessions
from federation.coordinator.refused import RefusedError
from federation.coordinator.sessions import Caller
from federation.enrolment import Rotation, SessionProof
from federation.invitation import Stage
from federation.roster import Roster
from federation.signed import Signed
from privacy.signing import Domain, public_key_hex
from storage.coordinator_tables import Enrolment as EnrolmentRow
from storage.coordinator_tables import Participant as ParticipantRow
from storage.coordinator_tables import ParticipantSession
from tests.coordinators import POPULATION, Site, noisy_vector


@pytest.fixture
def stranger(place: Site) -> Iterator[Participant]:
    with httpx.Client(base_url=place.url) as http:
        yield Participant(http, place.coordinator.identity, noisy_vector)


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def number_of(place: Site, participant: Participant) -> int:
    with place.authority.database.read() as session:
        query = select(ParticipantRow.id).where(ParticipantRow.identity == participant.identity)
        return session.scalars(query).one()


def roster(place: Site) -> Roster:
    node = place.participants[0]
    data = node.get("roster")
    return Signed.from_bytes(data, Roster, Domain.ROSTER, node.coordinator).record


def test_a_token_enrols_one_identity_which_an_admin_lets_in(
    place: Site, stranger: Participant
) -> None:
    name = f"stranger {time.time_ns()}"
    before = roster(place)
    token = enrolment.issue_token(place.authority, POPULATION)
    answer = stranger.enrol(token, name)
    assert (answer.status_code, answer.json()) == (201, {"state": "pending"})
    answer = stranger.enrol(token, name)
    assert (answer.status_code, answer.json()) == (200, {"state": "pending"})
    proof = stranger.http.post("/v1/participant/sessions", content=stranger.prove())
    assert code(proof) == (403, "not_approved")
    assert roster(place) == before

    with httpx.Client(base_url=place.url) as http:
        thief = Participant(http, stranger.coordinator, noisy_vector)
        assert code(thief.enrol(token, "thief")) == (403, "used_token")

    enrolment.approve(place.authority, number_of(place, stranger))
    stranger.open_session()
    assert stranger.enrol(token, name).json() == {"state": "approved"}
    after = roster(place)
    assert after.version == before.version + 1
    assert {m.identity for m in after.members} - {m.identity for m in before.members} == {
        stranger.identity
    }
    enrolment.revoke(place.authority, number_of(place, stranger))
    assert roster(place).members == before.members
    with pytest.raises(RefusedError, match="enrol anew"):
        enrolment.approve(place.authority, number_of(place, stranger))


def test_tokens_that_are_unknown_or_too_old_enrol_nobody(
    place: Site, stranger: Participant
) -> None:
    token = enrolment.issue_token(place.authority, POPULATION)
    unknown = type(token).fresh(token.coordinator)
    assert code(stranger.enrol(unknown, "a")) == (403, "bad_token")
    with place.authority.database.write() as session:
        session.execute(update_rows(EnrolmentRow).values(expires_at=1))
    assert code(stranger.enrol(token, "a")) == (403, "expired_token")


def test_a_name_and_an_identity_are_taken_once(place: Site, stranger: Participant) -> None:
    token = enrolment.issue_token(place.authority, POPULATION)
    assert code(stranger.enrol(token, "node 0")) == (409, "name_taken")
    stranger.key = place.participants[0].key
    assert code(stranger.enrol(token, "another")) == (409, "identity_known")


def test_a_challenge_opens_one_session_of_whoever_it_was_given_to(place: Site) -> None:
    node, other = place.participants[:2]
    with httpx.Client(base_url=place.url) as http:
        proof = node.prove()
        assert http.post("/v1/participant/sessions", content=proof).status_code == 201
        assert code(http.post("/v1/participant/sessions", content=proof)) == (409, "used_challenge")
        asked = http.post("/v1/participant/challenges", json={"identity": other.identity})
        for challenge in (asked.json()["challenge"], "0" * 106, ""):
            record = SessionProof(node.coordinator, node.identity, challenge)
            stolen = Signed.issue(record, Domain.SESSION, node.key).to_bytes()
            assert code(http.post("/v1/participant/sessions", content=stolen)) == (403, "bad_proof")
        assert code(http.post("/v1/participant/sessions", content=b"{}")) == (400, "bad_proof")


def test_a_challenge_used_many_times_at_once_opens_one_session(place: Site) -> None:
    node = place.participants[0]
    for _ in range(3):
        proof = node.prove()

        def use(_: int, proof: bytes = proof) -> httpx.Response:
            return httpx.post(f"{place.url}/v1/participant/sessions", content=proof)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(use, range(8)))
        assert sorted(answer.status_code for answer in answers) == [201] + 7 * [409]
        refused = {code(answer)[1] for answer in answers if answer.status_code == 409}
        assert refused == {"used_challenge"}


def test_the_oldest_sessions_of_a_participant_end_where_it_opens_too_many(place: Site) -> None:
    node, other = place.participants[:2]
    before = sessions.open_session(place.authority, other.prove())
    proofs = [node.prove() for _ in range(sessions.MOST_SESSIONS + 3)]
    tokens = [sessions.open_session(place.authority, proof).token for proof in proofs]

    def is_open(token: str) -> bool:
        with place.authority.database.look() as connection:
            return sessions.authenticate(connection, token) is not None

    count = (
        select(func.count(ParticipantSession.challenge))
        .join(ParticipantRow, ParticipantRow.id == ParticipantSession.participant_id)
        .where(ParticipantRow.identity == node.identity)
        .where(ParticipantSession.expires_at > time.time())
    )
    with place.authority.database.read() as session:
        assert session.scalar(count) == sessions.MOST_SESSIONS
    assert is_open(tokens[-1]) and is_open(before.token)
    for proof in proofs:
        with pytest.raises(RefusedError) as refused:
            sessions.open_session(place.authority, proof)
        assert refused.value.code == "used_challenge"
    node.open_session()


def test_a_session_ends_with_its_time(place: Site) -> None:
    node = place.participants[0]
    with place.authority.database.write() as session:
        session.execute(update_rows(ParticipantSession).values(expires_at=1))
    assert code(node.http.get("/v1/participant/work")) == (401, "invalid_session")
    for participant in place.participants:
        participant.open_session()
    assert node.http.get("/v1/participant/work").status_code == 200


def rotation(node: Participant, new: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    record = Rotation(node.coordinator, node.identity, public_key_hex(new))
    by_old, by_new = (Signed.issue(record, Domain.ROTATION, key) for key in (node.key, new))
    return by_old.to_bytes(), by_new.to_bytes()


def test_an_identity_is_rotated_by_both_keys_between_rounds(place: Site) -> None:
    node = place.participants[0]
    number = number_of(place, node)
    caller = Caller(number, node.identity, POPULATION)
    new = Ed25519PrivateKey.generate()
    by_old, by_new = rotation(node, new)
    for wrong in (
        (by_old, by_old),
        (by_new, by_new),
        (by_old, rotation(node, Ed25519PrivateKey.generate())[1]),
    ):
        with pytest.raises(RefusedError) as refused:
            enrolment.rotate(place.authority, caller, *wrong)
        assert refused.value.code == "bad_rotation"

    place.open_round()
    node.answer_all()
    with pytest.raises(RefusedError) as refused:
        enrolment.rotate(place.authority, caller, by_old, by_new)
    assert refused.value.code == "in_round"
    place.expire()
    assert place.round().stage == Stage.FAILED

    enrolment.rotate(place.authority, caller, by_old, by_new)
    assert node.http.get("/v1/participant/work").status_code == 401
    with ExitStack() as stack:
        http = stack.enter_context(httpx.Client(base_url=place.url))
        old = Participant(http, node.coordinator, noisy_vector, node.key)
        refusal = http.post("/v1/participant/sessions", content=old.prove())
        assert code(refusal) == (403, "unknown_identity")
    old_identity, node.key = node.identity, new
    node.open_session()
    identities = {member.identity for member in roster(place).members}
    assert node.identity in identities and old_identity not in identities
    with place.authority.database.read() as session:
        assert enrolment.identities(session, number) == {old_identity, node.identity}
    with place.authority.database.look() as connection:
        assert sessions.authenticate(connection, "nonsense") is None
