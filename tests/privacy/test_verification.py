"""The verifier's claims, one by one, against tampering without the coordinator's key."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.canonical import canonical_bytes
from privacy.limits import Unit
from privacy.signing import public_key_hex
from privacy.verification import verify
from privacy.verification_report import Code
from tests.privacy.ledger_factory import Coordinator, client_plan, document_plan, key
from tests.privacy.verifying import check, codes, genuine, other_ledger, rewritten


def test_a_genuine_ledger_is_accepted_with_its_known_epsilon() -> None:
    """p=5 of z=4 at delta=1e-6 by integer-order RDP: 2.736, and 2.55 by PLD.

    Computed with dp-accounting 0.6.0 when the project was specified.
    """
    coordinator = Coordinator(order=10)
    for i in range(8):
        coordinator.run_round(str(i), plan=client_plan(4.0, participations=5))
    report = verify(io.BytesIO(coordinator.file), [coordinator.public_key])
    assert report.ok
    assert (report.records, report.rounds_charged) == (9, 8)
    assert report.epsilon == pytest.approx(2.736, abs=1e-3)
    assert report.epsilon_renyi == pytest.approx(report.epsilon, rel=1e-9)
    assert report.epsilon_pld == pytest.approx(2.55, abs=5e-3)
    assert report.head == coordinator.ledger.head


def test_sampled_rounds_are_recomputed_too() -> None:
    coordinator = Coordinator(unit=Unit.SUBJECT, order=10)
    for i in range(4):
        coordinator.run_round(str(i), plan=document_plan())
    report = check(coordinator.file)
    assert report.ok
    assert report.epsilon is not None
    assert report.epsilon_renyi == pytest.approx(report.epsilon, rel=1e-9)
    assert report.epsilon_pld is not None
    assert report.epsilon_pld <= report.epsilon


def test_it_says_plainly_when_no_receipts_were_given() -> None:
    without = check(genuine().file)
    assert without.ok
    assert without.receipts == 0
    assert "No receipts were given" in without.statements()[1]
    given_all = check(genuine().file, genuine().all_receipts)
    assert given_all.ok
    assert given_all.receipts == 18
    assert "18 receipts were checked" in given_all.statements()[1]
    for report in (without, given_all):
        assert "not that the noise was added" in report.statements()[2]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_changed_byte_is_found(data: st.DataObject) -> None:
    original = genuine().file
    position = data.draw(st.integers(0, len(original) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != original[position]))
    assert not check(original[:position] + bytes([byte]) + original[position + 1 :]).ok


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_inserted_or_removed_stretch_is_found(data: st.DataObject) -> None:
    original = genuine().file
    last_line = len(original) - len(genuine().lines[-1])
    start = data.draw(st.integers(0, last_line - 1))
    length = data.draw(st.integers(0, 200))
    inserted = data.draw(st.binary(min_size=1 if length == 0 else 0, max_size=40))
    changed = original[:start] + inserted + original[start + length :]
    if changed != original:
        assert not check(changed).ok


@pytest.mark.parametrize("i", range(6))
def test_every_removed_record_is_found(i: int) -> None:
    lines = genuine().lines
    assert Code.CHAIN in codes(check(b"".join(lines[:i] + lines[i + 1 :])))


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(7)).filter(lambda order: list(order) != list(range(7))))
def test_every_reordering_is_found(order: list[int]) -> None:
    assert not check(b"".join(genuine().lines[i] for i in order)).ok


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 7), st.integers(0, 6), st.booleans())
def test_every_repeated_or_foreign_record_is_found(at: int, which: int, foreign: bool) -> None:
    lines = genuine().lines
    inserted = other_ledger()[which] if foreign else lines[which]
    assert not check(b"".join([*lines[:at], inserted, *lines[at:]])).ok
    replaced = [*lines[:which], other_ledger()[which], *lines[which + 1 :]]
    assert not check(b"".join(replaced)).ok


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 6), st.integers(0, 6))
def test_swapped_signatures_are_found(i: int, j: int) -> None:
    values = [json.loads(line) for line in genuine().lines]
    if values[i]["signature"] == values[j]["signature"]:
        return
    values[i]["signature"], values[j]["signature"] = values[j]["signature"], values[i]["signature"]
    report = check(b"".join(canonical_bytes(value) + b"\n" for value in values))
    assert Code.SIGNATURE in codes(report)


def test_a_chain_hashed_anew_without_the_key_is_found() -> None:
    assert Code.SIGNATURE in codes(check(rewritten(signer=None)))
    assert Code.SIGNATURE in codes(check(rewritten(signer=key("attacker"))))
    stolen_name = rewritten(signer=key("attacker")).replace(
        public_key_hex(key("attacker")).encode(), genuine().public_key.encode()
    )
    assert Code.SIGNATURE in codes(check(stolen_name))


@pytest.mark.parametrize("k", range(3, 7))
def test_records_moved_between_two_forks_are_found(k: int) -> None:
    """Both are signed by the coordinator and alike in number and sequence; only links differ."""
    fork = rewritten(signer=genuine().key).splitlines(keepends=True)
    for front, back in ((fork, genuine().lines), (genuine().lines, fork)):
        report = check(b"".join([*front[:k], *back[k:]]))
        assert report.findings[0].line == k + 1
        assert "link" in report.findings[0].message
