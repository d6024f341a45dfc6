"""The verifier's claims against whoever holds the coordinator's key: only receipts show it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from privacy.ledger_records import Result
from privacy.receipts import Receipt, SignedStatement, receipts_hash
from privacy.verification_report import Code, LimitChange
from tests.privacy.ledger_factory import TIME, Coordinator, hex_hash, key, small_ledger
from tests.privacy.verifying import check, codes, genuine, other_ledger, rewritten


def test_another_ledger_of_the_same_coordinator_is_found_by_receipts() -> None:
    whole = b"".join(other_ledger())
    assert check(whole).population == "schools"
    assert Code.RECEIPT in codes(check(whole, genuine().all_receipts))


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
