"""The verifier against epsilons that were declared wrongly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import privacy.limits
from privacy.guarantee import View, round_rdp
from privacy.ledger_records import Mechanism, RoundRecord
from privacy.limits import Unit
from privacy.plan import PrivacyPlan
from privacy.verification_report import Code, VerificationReport
from tests.privacy.ledger_factory import TIME, Coordinator, client_plan
from tests.privacy.verifying import check, codes


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
