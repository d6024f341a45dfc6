"""Signed records: what comes back, and everything that does not."""

from __future__ import annotations

import json

import pytest

from federation.enrolment import Enrolment, EnrolmentToken, Rotation, SessionProof
from federation.invitation import Stage
from federation.messages import MessageHeader
from federation.plan import FederationPlan, read_plan
from federation.signed import Signed, SignedError, record_hash
from federation.versions import Version
from privacy.canonical import canonical_bytes
from privacy.signing import BadSignatureError, Domain, public_key_hex
from tests.federation.plans import COORDINATOR, client_plan, document_plan
from tests.privacy.ledger_factory import hex_hash, key

SESSION = SessionProof(COORDINATOR, hex_hash("identity"), "challenge")


def test_a_signed_plan_comes_back_as_it_was() -> None:
    for plan in (document_plan(), client_plan(threat_model="active", colluders=0)):
        signed = Signed.issue(plan, Domain.PLAN, key("coordinator"))
        assert read_plan(signed.to_bytes(), COORDINATOR) == signed
        assert read_plan(signed.to_bytes(), COORDINATOR).record.hash == plan.hash


def test_a_plan_by_another_coordinator_is_refused() -> None:
    other = key("other")
    signed = Signed.issue(document_plan(), Domain.PLAN, other)
    with pytest.raises(SignedError, match="another key"):
        read_plan(signed.to_bytes(), COORDINATOR)
    with pytest.raises(SignedError, match="names another coordinator"):
        read_plan(signed.to_bytes(), public_key_hex(other))


def test_no_byte_can_be_changed() -> None:
    data = Signed.issue(SESSION, Domain.SESSION, key("node")).to_bytes()
    signer = public_key_hex(key("node"))
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(SignedError):
            Signed.from_bytes(changed, SessionProof, Domain.SESSION, signer)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"record":1,"signature":2,"signer":3}', b"[" * 10_000],
)
def test_what_is_no_signed_record_is_refused(data: bytes) -> None:
    with pytest.raises(SignedError):
        Signed.read(data, SessionProof, Domain.SESSION)


def test_a_signature_for_one_purpose_serves_no_other() -> None:
    data = Signed.issue(SESSION, Domain.SESSION, key("node")).to_bytes()
    with pytest.raises(SignedError, match="signature"):
        Signed.read(data, SessionProof, Domain.ROTATION)


def test_an_added_field_is_refused_though_it_is_signed() -> None:
    signed = json.loads(Signed.issue(SESSION, Domain.SESSION, key("node")).to_bytes())
    data = canonical_bytes(signed | {"note": "x"})
    with pytest.raises(SignedError, match="not a signed record"):
        Signed.read(data, SessionProof, Domain.SESSION)


def test_hashes_of_different_purposes_differ() -> None:
    assert len({record_hash(SESSION, domain) for domain in Domain}) == len(Domain)


def test_a_message_is_signed_over_federation_round_stage_and_payload() -> None:
    identity = key("node")
    header = MessageHeader.of("ward", "r1", Stage.MASKED, b"payload")
    signature = header.sign(identity)
    header.verify(public_key_hex(identity), signature)
    for other in (
        MessageHeader.of("lab", "r1", Stage.MASKED, b"payload"),
        MessageHeader.of("ward", "r2", Stage.MASKED, b"payload"),
        MessageHeader.of("ward", "r1", Stage.SHARES, b"payload"),
        MessageHeader.of("ward", "r1", Stage.MASKED, b"payload."),
    ):
        with pytest.raises(BadSignatureError):
            other.verify(public_key_hex(identity), signature)
    with pytest.raises(BadSignatureError):
        header.verify(public_key_hex(key("other")), signature)


def test_a_token_carries_the_coordinator_s_key_and_does_not_print_its_secret() -> None:
    token = EnrolmentToken.fresh(COORDINATOR)
    assert EnrolmentToken.parse(f"  {token.reveal()}\n") == token
    assert token.secret not in repr(token) and COORDINATOR in repr(token)
    assert EnrolmentToken.fresh(COORDINATOR) != token


@pytest.mark.parametrize("change", ["", "x", "alcove-enrol-", "A", " 1"])
def test_what_is_no_token_is_refused(change: str) -> None:
    token = EnrolmentToken.fresh(COORDINATOR).reveal()
    text = token.replace("alcove-enrol-", change, 1) if change in ("x", "A") else change
    with pytest.raises(ValueError, match="no enrolment token"):
        EnrolmentToken.parse(text)


@pytest.mark.parametrize("name", ["", "a" * 101, "a\nb", "a\x00"])
def test_a_node_s_name_is_short_and_printable(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 100 printable"):
        Enrolment(COORDINATOR, hex_hash("t"), hex_hash("i"), name)


def test_a_rotation_is_to_another_key() -> None:
    with pytest.raises(ValueError, match="is the old one"):
        Rotation(COORDINATOR, hex_hash("a"), hex_hash("a"))


@pytest.mark.parametrize(
    ("number", "round_id", "previous"),
    [(0, "r", "p"), (1, None, None), (-1, "r", "p"), (1, "r", None), (0, None, "p")],
)
def test_every_version_but_the_first_names_its_round_and_its_parent(
    number: int, round_id: str | None, previous: str | None
) -> None:
    parent = None if previous is None else hex_hash(previous)
    hashes = hex_hash("plan"), number, hex_hash("spec"), "model", hex_hash("parameters")
    with pytest.raises(ValueError, match="version"):
        Version("ward", *hashes, round_id, parent)


def test_plans_that_differ_anywhere_have_different_hashes() -> None:
    plans: list[FederationPlan] = [
        document_plan(),
        document_plan(federation="other"),
        document_plan(rounds=19),
        document_plan(map_terms={"temperature": 0.1}),
        document_plan(timing={"phase_seconds": 61}),
        document_plan(public_passages=["x"]),
    ]
    assert len({plan.hash for plan in plans}) == len(plans)
