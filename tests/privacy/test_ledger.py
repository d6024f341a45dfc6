"""Ledger records, receipts and the labels under which they are hashed and signed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from privacy.canonical import canonical_bytes
from privacy.ledger import Ledger, LedgerError
from privacy.ledger_records import (
    LedgerRecord,
    Mechanism,
    Result,
    RoundFacts,
    SealedRecord,
    seal,
    unseal,
)
from privacy.limits import RenyiFilter, Unit
from privacy.receipts import Receipt, ReceiptError, SignedStatement, receipts_hash, survivors_hash
from privacy.records import RecordError, from_json, to_json
from privacy.signing import BadSignatureError, Domain, digest, sign, verify_signature
from tests.privacy.ledger_factory import (
    TIME,
    Coordinator,
    client_plan,
    document_plan,
    hex_hash,
    key,
    small_ledger,
)

LIMIT = RenyiFilter(Unit.NODE, 8, 8.0, 1e-6)


def test_the_link_is_sha256_of_the_label_and_the_canonical_record() -> None:
    record = Ledger().next_limit("clinics", LIMIT, TIME)
    body = (
        '{"format":"alcove-ledger-1","limit":{"delta":0.000001,"epsilon":8,"order":8,'
        '"unit":"node"},"population":"clinics","previous":"' + "0" * 64 + '","round":null,'
        '"sequence":0,"time":"2026-11-22T12:00:00Z"}'
    ).encode()
    assert canonical_bytes(to_json(record)) == body
    assert record.link == hashlib.sha256(b"alcove/v1/ledger-link\x00" + body).hexdigest()
    signed = key("coordinator").sign(b"alcove/v1/ledger-record\x00" + body).hex()
    assert unseal(seal(record, key("coordinator"))).signature == signed


def test_labels_are_distinct_and_none_begins_another() -> None:
    labels = [domain.label(b"") for domain in Domain]
    assert len(Domain.__members__) == len(labels) == 18
    for label in labels:
        assert [other for other in labels if other.startswith(label)] == [label]


@pytest.mark.parametrize("made_for", list(Domain))
def test_a_signature_serves_only_the_use_that_it_was_made_for(made_for: Domain) -> None:
    signer = key("coordinator")
    public = Coordinator().public_key
    signature = sign(signer, made_for, b"message")
    for used_for in Domain:
        if used_for is made_for:
            verify_signature(public, used_for, b"message", signature)
        else:
            with pytest.raises(BadSignatureError):
                verify_signature(public, used_for, b"message", signature)
            assert digest(made_for, b"message") != digest(used_for, b"message")


@pytest.mark.parametrize("public", ["", "00" * 32, "zz" * 32, "AB" * 32, "ab" * 31])
@pytest.mark.parametrize("signature", ["", "00" * 64, "ab" * 63])
def test_malformed_keys_and_signatures_are_refused(public: str, signature: str) -> None:
    with pytest.raises(BadSignatureError):
        verify_signature(public, Domain.RECEIPT, b"message", signature)


def test_a_sealed_record_is_read_back_as_it_was() -> None:
    coordinator = small_ledger()
    ledger = Ledger()
    for line in coordinator.lines:
        sealed = unseal(line)
        sealed.check()
        assert sealed.signer == coordinator.public_key
        assert seal(sealed.record, coordinator.key) == line
        ledger.append(sealed.record)
    assert (ledger.head, ledger.length) == (coordinator.ledger.head, 7)
    assert ledger.total() == coordinator.ledger.total()


@pytest.mark.parametrize("name", ["training_loss", "example_count", "gradient_norm", "accuracy"])
@pytest.mark.parametrize("where", ["record", "round", "facts", "accounts"])
def test_nothing_measured_on_data_can_be_in_a_record(name: str, where: str) -> None:
    value = json.loads(small_ledger().lines[1])
    target = {
        "record": value["record"],
        "round": value["record"]["round"],
        "facts": value["record"]["round"]["facts"],
        "accounts": value["record"]["round"]["accounts"],
    }[where]
    target[name] = 0.25
    with pytest.raises(RecordError, match="unknown fields"):
        from_json(SealedRecord, value)


def test_the_mechanism_repeats_what_the_plan_implies() -> None:
    """Rounding inflates C/gamma = 3200 by sqrt(1024) = 32: (2102.06387, section 4.1)."""
    mechanism = Mechanism.of_plan(client_plan())
    assert mechanism.l2_squared == 3232**2
    assert mechanism.l1 == pytest.approx(3232 * 32)
    assert mechanism.share_sigma == pytest.approx(4 * 3232 / 2**0.5)
    assert (mechanism.honest_shares, mechanism.sampling, mechanism.unit) == (2, "none", "node")
    assert Mechanism.of_plan(document_plan()).sampling == "Poisson, capped"


def good_facts() -> RoundFacts:
    return Coordinator().facts("1")


@pytest.mark.parametrize(
    "changes",
    [
        {"charged": False},
        {"survivors": 2},
        {"survivors": 101},
        {"survivors": None},
        {"model_out": None},
        {"reason": "because"},
        {"result": Result.ABORTED},
        {"plan_hash": "AB" * 32},
        {"survivors_hash": "short"},
        {"code_commit": "main"},
        {"result": Result.ABORTED, "reason": "late"},
    ],
)
def test_facts_that_contradict_themselves_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        replace(good_facts(), **changes)  # type: ignore[arg-type]


def test_an_aborted_round_costs_only_if_it_was_charged() -> None:
    coordinator = Coordinator()
    coordinator.abort_round("1")
    assert coordinator.ledger.total().rdp[0] == 0
    aborted = replace(
        coordinator.facts("2"),
        model_out=None,
        result=Result.ABORTED,
        reason="the coordinator stopped after charging",
    )
    coordinator.write(coordinator.ledger.next_round(aborted, TIME))
    assert coordinator.ledger.total().rdp[0] > 0


def altered(record: LedgerRecord, **changes: object) -> LedgerRecord:
    return replace(record, **changes)  # type: ignore[arg-type]


def test_records_that_do_not_continue_the_ledger_are_refused() -> None:
    coordinator = small_ledger()
    ledger = coordinator.ledger
    good = ledger.next_round(coordinator.facts("5"), TIME)
    assert ledger.problems(good) == ()
    other_plan = coordinator.facts("6", plan=client_plan(participations=4))
    for bad in (
        altered(good, sequence=8),
        altered(good, sequence=6),
        altered(good, previous=hex_hash("elsewhere")),
        altered(good, population="schools"),
        ledger.next_round(coordinator.facts("4"), TIME),
        ledger.next_round(other_plan, TIME),
        ledger.next_limit("clinics", replace(LIMIT, order=16), TIME),
        ledger.next_limit("clinics", replace(LIMIT, delta=1e-5), TIME),
        ledger.next_limit("schools", LIMIT, TIME),
    ):
        before = ledger.head, ledger.length, ledger.total()
        with pytest.raises(LedgerError):
            ledger.append(bad)
        assert (ledger.head, ledger.length, ledger.total()) == before
    ledger.append(good)
    ledger.append(ledger.next_limit("clinics", replace(LIMIT, epsilon=3.0), TIME))
    with pytest.raises(LedgerError, match=r"exceeds the limit of epsilon 3\.0"):
        ledger.append(ledger.next_round(coordinator.facts("1", "third"), TIME))


def test_a_ledger_begins_with_a_limit_and_holds_what_the_limit_can_bound() -> None:
    empty = Ledger()
    with pytest.raises(LedgerError, match="begins with a limit"):
        empty.next_round(good_facts(), TIME)
    coordinator = Coordinator(unit=Unit.NODE, order=10)
    record = coordinator.ledger.next_round(coordinator.facts("1", plan=document_plan()), TIME)
    with pytest.raises(LedgerError, match="gives no bound"):
        coordinator.ledger.append(record)


@pytest.mark.parametrize("time", ["", "2026-11-22", "2026-11-22T12:00:00+01:00", "now"])
def test_times_have_one_form(time: str) -> None:
    with pytest.raises(ValueError, match="YYYY"):
        Ledger().next_limit("clinics", LIMIT, time)


def test_receipts_are_read_back_and_hashed_as_a_set() -> None:
    receipts = small_ledger().receipts["ward/1"]
    assert [Receipt.from_bytes(r.to_bytes()) for r in receipts] == receipts
    assert receipts_hash(receipts) == receipts_hash([*reversed(receipts), receipts[0]])
    assert receipts_hash(receipts) != receipts_hash(receipts[1:])
    assert survivors_hash(["a", "b"]) == survivors_hash(["b", "a", "b"]) != survivors_hash(["ab"])


def test_a_participant_does_not_countersign_what_the_coordinator_did_not_sign() -> None:
    coordinator = Coordinator()
    signed = SignedStatement.issue(coordinator.statement("1"), coordinator.key)
    forged = replace(signed, statement=coordinator.statement("2"))
    with pytest.raises(BadSignatureError):
        Receipt.countersign(forged, key("node 0"))


@pytest.mark.parametrize(
    "forgery",
    [
        lambda r, other: replace(r, signature=other.signature),
        lambda r, other: replace(r, participant=other.participant),
        lambda r, other: replace(r, signed=replace(r.signed, signature=r.signature)),
        lambda r, other: replace(r, signature=r.signed.signature),
        lambda r, other: replace(r, signed=replace(r.signed, coordinator=r.participant)),
        lambda r, other: replace(r, signed=other.signed),
    ],
)
def test_a_forged_receipt_is_refused(forgery: object) -> None:
    coordinator = small_ledger()
    receipt, other = coordinator.receipts["ward/1"][0], coordinator.receipts["lab/1"][1]
    with pytest.raises(ReceiptError):
        Receipt.from_bytes(forgery(receipt, other).to_bytes())  # type: ignore[operator]


def test_a_participant_cannot_invent_a_round() -> None:
    """Its own signature holds; the coordinator's over the invented statement cannot."""
    coordinator = small_ledger()
    real = coordinator.receipts["ward/1"][0].signed
    invented = replace(real, statement=replace(real.statement, round_id="invented"))
    message = canonical_bytes(to_json(invented))
    receipt = Receipt(
        invented,
        coordinator.receipts["ward/1"][0].participant,
        sign(key("node 0"), Domain.RECEIPT, message),
    )
    with pytest.raises(ReceiptError, match="round_statement"):
        Receipt.from_bytes(receipt.to_bytes())
