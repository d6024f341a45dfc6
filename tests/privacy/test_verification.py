"""The verifier's claims, one by one, against tampering with and without the coordinator's key."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

import privacy.limits
from privacy.canonical import canonical_bytes
from privacy.guarantee import View, round_rdp
from privacy.ledger import Ledger
from privacy.ledger_records import Mechanism, Result, RoundRecord, seal, unseal
from privacy.limits import Unit
from privacy.plan import PrivacyPlan
from privacy.receipts import Receipt, SignedStatement, receipts_hash
from privacy.signing import public_key_hex
from privacy.verification import LONGEST_LINE, Code, LimitChange, VerificationReport, verify
from tests.privacy.ledger_factory import (
    TIME,
    Coordinator,
    client_plan,
    document_plan,
    hex_hash,
    key,
    small_ledger,
)


@cache
def genuine() -> Coordinator:
    return small_ledger()


@cache
def other_ledger() -> tuple[bytes, ...]:
    """The same coordinator's ledger of another population."""
    coordinator = Coordinator(population="schools")
    for i in range(1, 7):
        coordinator.run_round(str(i))
    return tuple(coordinator.lines)


def check(data: bytes, receipts: list[bytes] | None = None) -> VerificationReport:
    return verify(io.BytesIO(data), [genuine().public_key], receipts or [])


def codes(report: VerificationReport) -> set[Code]:
    return {finding.code for finding in report.findings}


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


# Without the coordinator's key: whatever is done to the inside of the chain is found.


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


def rewritten(signer: Ed25519PrivateKey | None) -> bytes:
    """The ledger with one survivor count changed and all later links computed anew."""
    ledger, lines = Ledger(), []
    for line in genuine().lines:
        sealed = unseal(line)
        record = replace(sealed.record, previous=ledger.head, sequence=ledger.length)
        if record.round is not None and record.round.facts.round_id == "2":
            facts = replace(record.round.facts, survivors=50)
            record = replace(record, round=RoundRecord(facts, record.round.accounts))
        ledger.append(record)
        if signer is None:
            value = json.loads(seal(record, genuine().key))
            value["signature"] = sealed.signature
            lines.append(canonical_bytes(value) + b"\n")
        else:
            lines.append(seal(record, signer))
    return b"".join(lines)


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


def test_another_ledger_of_the_same_coordinator_is_found_by_receipts() -> None:
    whole = b"".join(other_ledger())
    assert check(whole).population == "schools"
    assert Code.RECEIPT in codes(check(whole, genuine().all_receipts))


# With the coordinator's key: only receipts show it.


@pytest.mark.parametrize("kept", range(1, 7))
def test_a_cut_tail_is_found_as_far_as_receipts_go(kept: int) -> None:
    cut = b"".join(genuine().lines[:kept])
    assert check(cut).ok
    assert Code.UNLOGGED in codes(check(cut, genuine().all_receipts))
    logged = [
        receipt.to_bytes()
        for name in ("ward/1", "ward/2", "ward/3", "lab/1", "ward/4")[: kept - 1]
        for receipt in genuine().receipts[name]
    ]
    assert check(cut, logged).ok


def test_a_head_that_was_cut_off_is_found_even_if_the_round_itself_is_logged() -> None:
    coordinator = small_ledger()
    seen_late = coordinator.facts("5")
    shorter = Coordinator()
    shorter.run_round("5")
    receipts = [r.to_bytes() for r in coordinator.receipts["ward/5"]]
    assert seen_late.receipts == len(receipts)
    assert Code.FORK_OR_CUT in codes(check(shorter.file, receipts))


def test_a_fork_by_the_coordinator_is_found_by_receipts() -> None:
    forked = rewritten(signer=genuine().key)
    assert check(forked).ok
    assert Code.FORK_OR_CUT in codes(check(forked, genuine().all_receipts))


def test_an_unlogged_round_is_found_by_its_receipts() -> None:
    coordinator = small_ledger()
    hidden = [receipt.to_bytes() for receipt in coordinator.collect("hidden")]
    coordinator.run_round("5")
    assert check(coordinator.file).ok
    report = check(coordinator.file, hidden[:1])
    assert codes(report) == {Code.UNLOGGED}
    assert "hidden" in report.findings[0].message


def test_different_statements_to_different_participants_are_found() -> None:
    coordinator = small_ledger()
    second = replace(coordinator.statement("1"), survivors_hash=hex_hash("a smaller set"))
    first = coordinator.receipts["ward/1"][0]
    other = Receipt.countersign(SignedStatement.issue(second, coordinator.key), key("node 1"))
    report = check(coordinator.file, [first.to_bytes(), other.to_bytes()])
    assert Code.CONTRADICTION in codes(report)
    assert Code.CONTRADICTION in codes(check(coordinator.file, [other.to_bytes()]))


def test_a_round_logged_before_a_head_that_preceded_it_is_found() -> None:
    coordinator = small_ledger()
    late = replace(coordinator.receipts["ward/1"][0].signed.statement, head=coordinator.ledger.head)
    receipt = Receipt.countersign(SignedStatement.issue(late, coordinator.key), key("node 0"))
    assert codes(check(coordinator.file, [receipt.to_bytes()])) == {Code.FORK_OR_CUT}


def test_receipts_that_prove_nothing_are_named_and_not_counted() -> None:
    coordinator = small_ledger()
    stranger = Coordinator(name="stranger").collect("1")[0].to_bytes()
    good = coordinator.receipts["ward/1"][0].to_bytes()
    for worthless in (stranger, b"", b"{}", b"\xff", good[:-1], b"[" * 100_000):
        report = check(coordinator.file, [worthless, good])
        assert codes(report) == {Code.RECEIPT}
        assert report.receipts == 1


def test_uncharged_rounds_with_receipts_are_counted_and_named() -> None:
    """Honest or not, such a round looks the same: it is no finding, and the auditor must ask."""
    coordinator = Coordinator()
    coordinator.run_round("r0")
    for i in range(1, 14):
        coordinator.abort_round(f"r{i}")
    names = tuple(("ward", f"r{i}") for i in range(1, 14))
    for receipts in ([], coordinator.all_receipts):
        report = check(coordinator.file, receipts)
        assert report.ok
        assert report.rounds_charged == 1
        assert report.uncharged == names
        (statement,) = report.statements()[3:]
        assert "uncharged: 13 ('r1' of 'ward', " in statement
        assert "'r10' of 'ward', and 3 more)" in statement
        assert "can say whether they released unmasking shares" in statement


def test_a_record_cannot_hide_an_uncharged_round_by_counting_no_receipts() -> None:
    coordinator = Coordinator()
    coordinator.run_round("charged")
    hidden = replace(
        coordinator.facts("hidden"),
        model_out=None,
        charged=False,
        result=Result.ABORTED,
        reason="too few survivors",
        receipts=0,
        receipts_hash=receipts_hash([]),
    )
    coordinator.write(coordinator.ledger.next_round(hidden, TIME))
    assert check(coordinator.file).uncharged == ()
    assert check(coordinator.file, coordinator.all_receipts[-1:]).uncharged == (("ward", "hidden"),)


def test_names_in_a_statement_are_short_and_on_one_line() -> None:
    coordinator = Coordinator()
    coordinator.abort_round("x\n" * 10_000)
    statement = check(coordinator.file).statements()[3]
    assert "uncharged: 1 (" in statement
    assert "\n" not in statement
    assert len(statement) < 600


def logged_as(**changes: object) -> Coordinator:
    """A charged round of three survivors with a receipt of each, logged with other numbers."""
    coordinator = Coordinator()
    facts = replace(coordinator.facts("1"), **changes)  # type: ignore[arg-type]
    coordinator.write(coordinator.ledger.next_round(facts, TIME))
    return coordinator


@pytest.mark.parametrize("changes", [{"survivors": 4}, {"receipts": 0}, {"receipts": 4}])
def test_a_number_that_its_own_hash_belies_is_found(changes: dict[str, int]) -> None:
    coordinator = logged_as(**changes)
    assert check(coordinator.file).ok
    report = check(coordinator.file, coordinator.all_receipts)
    assert codes(report) == {Code.CONTRADICTION}
    (number,) = changes.values()
    assert f"logged with {number}" in report.findings[0].message
    assert "that of 3" in report.findings[0].message


@pytest.mark.parametrize("logged", range(3))
def test_receipts_that_never_arrived_convict_nobody_and_are_counted(logged: int) -> None:
    """An honest record of three survivors, of whom `logged` delivered their receipts."""
    delivered = Coordinator().collect("1")[:logged]
    coordinator = logged_as(receipts=logged, receipts_hash=receipts_hash(delivered))
    arrived = [receipt.to_bytes() for receipt in delivered]
    assert check(coordinator.file, arrived).other_receipts == ()
    # Those that arrived, and as many others: the numbers agree, the set does not.
    for given_receipts in (coordinator.all_receipts, coordinator.all_receipts[-logged:]):
        report = check(coordinator.file, given_receipts)
        assert report.ok
        assert report.other_receipts == (("ward", "1"),)
        assert "their records count: 1 ('1' of 'ward')" in report.statements()[3]
        assert "proves nothing against the coordinator" in report.statements()[3]


def test_a_stranger_who_countersigns_convicts_nobody_and_is_counted() -> None:
    coordinator = small_ledger()
    receipts = coordinator.receipts["ward/1"]
    forged = Receipt.countersign(receipts[0].signed, key("invented"))
    for shown in ([*receipts, forged], [*receipts[:2], forged]):
        report = check(coordinator.file, [receipt.to_bytes() for receipt in shown])
        assert report.ok
        assert report.other_receipts == (("ward", "1"),)
    for genuine_receipts in (receipts, receipts[:2]):
        report = check(coordinator.file, [receipt.to_bytes() for receipt in genuine_receipts])
        assert report.other_receipts == ()


def test_more_receipts_than_survivors_are_counted() -> None:
    """The record knows of the invented countersigner, and still has one survivor fewer."""
    coordinator = Coordinator()
    facts = coordinator.facts("1")
    receipts = coordinator.receipts["ward/1"]
    receipts.append(Receipt.countersign(receipts[0].signed, key("invented")))
    four = replace(facts, receipts=4, receipts_hash=receipts_hash(receipts))
    coordinator.write(coordinator.ledger.next_round(four, TIME))
    report = check(coordinator.file, coordinator.all_receipts)
    assert report.ok
    assert report.other_receipts == (("ward", "1"),)


def test_every_change_of_the_limit_is_named() -> None:
    coordinator = Coordinator(epsilon=2.0)
    opened = coordinator.ledger.limit
    assert opened is not None
    for epsilon in (20.0, 20.0, 5.0):
        limit = replace(opened, epsilon=epsilon)
        coordinator.write(coordinator.ledger.next_limit("clinics", limit, TIME))
        coordinator.run_round(f"{len(coordinator.lines)}")
    report = check(coordinator.file)
    assert report.ok
    assert report.limit_changes == (LimitChange(2, 2.0, 20.0), LimitChange(6, 20.0, 5.0))
    (statement,) = report.statements()[3:]
    assert "from epsilon 2.0 to 20.0 by record 2, from epsilon 20.0 to 5.0 by record 6" in statement
    assert "a new promise" in statement


# Accounts.


def dishonest(change: Callable[[RoundRecord], RoundRecord]) -> VerificationReport:
    coordinator = Coordinator()
    coordinator.run_round("1")
    record = coordinator.ledger.next_round(coordinator.facts("2"), TIME)
    assert record.round is not None
    coordinator.write(replace(record, round=change(record.round)), check=False)
    return check(coordinator.file)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("loss", lambda accounts: accounts.loss.times(0)),
        ("total", lambda accounts: accounts.loss),
        ("epsilon_before", lambda accounts: 0.0),
        ("epsilon_after", lambda accounts: accounts.epsilon_after * (1 - 1e-6)),
        ("rho", lambda accounts: None),
        ("orders", lambda accounts: accounts.orders[::-1]),
        ("mechanism", lambda accounts: replace(accounts.mechanism, unit=Unit.SUBJECT)),
        ("mechanism", lambda accounts: replace(accounts.mechanism, honest_shares=3)),
        ("mechanism", lambda accounts: replace(accounts.mechanism, share_sigma=1e9)),
        ("mechanism", lambda accounts: replace(accounts.mechanism, adjacency="replace-one")),
    ],
)
def test_accounts_that_do_not_follow_from_the_plan_are_found(
    field: str, change: Callable[[object], object]
) -> None:
    report = dishonest(
        lambda record: replace(
            record, accounts=replace(record.accounts, **{field: change(record.accounts)})
        )
    )
    assert codes(report) == {Code.CHAIN}
    assert field in report.findings[0].message


def test_a_total_above_the_limit_is_found() -> None:
    coordinator = Coordinator(epsilon=2.5)
    for i in range(4):
        coordinator.write(
            coordinator.ledger.next_round(coordinator.facts(str(i)), TIME), check=i < 3
        )
    report = check(coordinator.file)
    assert any("exceeds the limit" in finding.message for finding in report.findings)


def test_an_accountant_that_under_reports_raises_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is consistent with a wrong accountant; the second one disagrees."""

    def wrong(plan: PrivacyPlan, view: View) -> np.ndarray:
        return round_rdp(plan, view) * 0.999

    monkeypatch.setattr(privacy.limits, "round_rdp", wrong)
    coordinator = Coordinator()
    coordinator.run_round("1")
    report = check(coordinator.file)
    assert codes(report) == {Code.ACCOUNTANT}
    assert report.epsilon_renyi is not None
    assert report.epsilon is not None
    assert report.epsilon < report.epsilon_renyi


def test_an_accountant_that_over_reports_raises_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(plan: PrivacyPlan, view: View) -> np.ndarray:
        return round_rdp(plan, view) * (1 + 1e-6)

    monkeypatch.setattr(privacy.limits, "round_rdp", wrong)
    coordinator = Coordinator()
    coordinator.run_round("1")
    assert codes(check(coordinator.file)) == {Code.ACCOUNTANT}


def test_where_the_sum_is_not_gaussian_undercutting_is_still_an_alarm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coarse = replace(client_plan(participations=1), grid=0.5, dimension=4, noise_multiplier=1.0)
    assert Mechanism.of_plan(coarse).sum(coarse.dimension).tau > 0
    for factor, expected in ((1.0, set()), (1.5, set()), (0.999, {Code.ACCOUNTANT})):

        def scaled(plan: PrivacyPlan, view: View, factor: float = factor) -> np.ndarray:
            return round_rdp(plan, view) * factor

        monkeypatch.setattr(privacy.limits, "round_rdp", scaled)
        coordinator = Coordinator(order=12, epsilon=20.0)
        coordinator.run_round("1", plan=coarse)
        assert codes(check(coordinator.file)) == expected


# Hostile files: findings, never an exception and never a pass.


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 7))
def test_garbage_anywhere_is_found(garbage: bytes, at: int) -> None:
    lines = genuine().lines
    if garbage:
        assert not check(b"".join([*lines[:at], garbage, *lines[at:]])).ok


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n" * 1000,
        b"{}\n",
        b"null\n",
        b"[]\n",
        b'"record"\n',
        b"\xff\xfe\n",
        b"[" * 500_000 + b"\n",
        b'{"record":' * 50_000 + b"\n",
        b"9" * 1_000_000 + b"\n",
        b"x" * (LONGEST_LINE * 3),
        b"\x00" * 1000,
    ],
)
def test_files_that_are_no_ledger_are_refused(data: bytes) -> None:
    report = check(data)
    assert not report.ok
    assert "not accepted" in report.statements()[0]
    assert len(report.findings) <= 101


def test_a_file_cut_inside_its_last_record_is_found() -> None:
    for cut in (1, 2, 100, len(genuine().lines[-1]) - 1):
        assert Code.UNREADABLE in codes(check(genuine().file[:-cut]))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_wrong_types_in_a_signed_record_are_found(data: st.DataObject) -> None:
    """Even the coordinator cannot make the verifier stumble: the record is signed as it is."""
    value = json.loads(genuine().lines[2])["record"]
    target, path = value, []
    while isinstance(target, dict) and (not path or data.draw(st.booleans())):
        path.append(data.draw(st.sampled_from(sorted(target))))
        parent, target = target, target[path[-1]]
    replacement = data.draw(json_values.filter(lambda new: new != target))
    parent[path[-1]] = replacement
    try:
        message = canonical_bytes(value)
    except ValueError:
        return
    signature = genuine().key.sign(b"alcove/v1/ledger-record\x00" + message).hex()
    sealed = {"record": value, "signature": signature, "signer": genuine().public_key}
    lines = [*genuine().lines[:2], canonical_bytes(sealed) + b"\n", *genuine().lines[3:]]
    assert not check(b"".join(lines)).ok


@pytest.mark.parametrize(
    "plan",
    [
        {"cohort": 2**31, "min_survivors": 2**31, "noise_multiplier": 1e9},
        {"noise_multiplier": 1e-3},
        {"grid": 1e-300},
        {"dimension": 2**52},
    ],
)
def test_absurd_plans_in_a_signed_record_are_found(plan: dict[str, object]) -> None:
    value = json.loads(genuine().lines[1])["record"]
    value["round"]["facts"]["plan"] |= plan
    message = canonical_bytes(value)
    signature = genuine().key.sign(b"alcove/v1/ledger-record\x00" + message).hex()
    sealed = {"record": value, "signature": signature, "signer": genuine().public_key}
    report = check(genuine().lines[0] + canonical_bytes(sealed) + b"\n")
    assert not report.ok
