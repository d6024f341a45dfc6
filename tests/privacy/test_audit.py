"""The empirical audit: known answers, and bugs around the real encoder that it must flag."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from dp_accounting import get_sigma_gaussian
from numpy.typing import NDArray
from scipy import stats

import privacy.encoding
from privacy.audit import (
    Alarm,
    AuditReport,
    Canaries,
    Claim,
    audit,
    cosine_estimate,
    guess,
    normal_pair_epsilon,
    one_run_lower_bound,
)
from privacy.encoding import decode, encode
from privacy.plan import Mode, PrivacyPlan

FALSE_ALARM = 1e-6
"""Probability that one audit of a right implementation raises an alarm."""

NODES, SURVIVORS, DIMENSION = 800, 600, 4096


def plan(noise_multiplier: float) -> PrivacyPlan:
    return PrivacyPlan(
        mode=Mode.CLIENT,
        dimension=DIMENSION,
        clip_norm=1.0,
        grid=1 / 6400,
        noise_multiplier=noise_multiplier,
        cohort=NODES,
        min_survivors=SURVIVORS,
        colluders=0,
        rounds=2,
        max_participations=1,
        delta=1e-6,
    )


@cache
def canaries() -> Canaries:
    """Every node of the audited population is a canary."""
    return Canaries.draw(NODES, DIMENSION)


def run_round(
    encoder: PrivacyPlan, decoder: PrivacyPlan, nodes: Iterable[int], *, turn: int | None = None
) -> NDArray[np.float64]:
    """One round of the real encoder: coins and directions in, noisy mean out.

    With `turn`, only every second canary contributes; the other nodes upload their noise alone.
    """
    total = np.zeros(DIMENSION, dtype=np.uint32)
    for i in nodes:
        contributes = canaries().included[i] and turn in (None, i % 2)
        row = canaries().directions[i] * contributes
        total += encode([(b"node", row)], encoder)
    return decode(total, decoder)


def audited(update: NDArray[np.float64], terms: PrivacyPlan, *, rounds: int = 1) -> AuditReport:
    return audit(canaries(), update, Claim.of_plan(terms, rounds), FALSE_ALARM)


def test_the_right_implementation_raises_no_alarm() -> None:
    """Two audits; each raises an alarm with probability at most 1e-6 (`FALSE_ALARM`)."""
    one = audited(run_round(plan(1.0), plan(1.0), range(NODES)), plan(1.0))
    assert one.alarms == ()
    assert one.effect_ratio == pytest.approx(1.0, abs=0.4)
    assert one.noise_ratio == pytest.approx(math.sqrt(NODES / SURVIVORS), rel=0.1)
    halves = [run_round(plan(1.0), plan(1.0), range(NODES), turn=turn) for turn in (0, 1)]
    assert audited(halves[0] + halves[1], plan(1.0), rounds=2).alarms == ()


def test_the_fewest_survivors_leave_just_enough_noise() -> None:
    """False alarm at most 1e-6: the canaries of the missing nodes are left out of the audit."""
    present = Canaries(
        canaries().included[:SURVIVORS], canaries().directions[:SURVIVORS], canaries().nonce
    )
    update = run_round(plan(1.0), plan(1.0), range(SURVIVORS))
    report = audit(present, update, Claim.of_plan(plan(1.0), 1), FALSE_ALARM)
    assert report.alarms == ()
    assert report.noise_ratio == pytest.approx(1.0, rel=0.1)


def test_noise_that_is_off_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_noise(sigma: float, count: int, keystream: object) -> NDArray[np.int64]:
        return np.zeros(count, dtype=np.int64)

    monkeypatch.setattr(privacy.encoding, "discrete_gaussian", no_noise)
    # The bound cannot rise above zero unless delta is small beside the significance.
    terms = replace(plan(4.0), delta=1e-10)
    report = audited(run_round(terms, terms, range(NODES)), terms)
    assert {Alarm.NOISE, Alarm.EPSILON} <= set(report.alarms)
    assert report.epsilon_lower_bound > Claim.of_plan(terms, 1).epsilon


def test_a_divisor_that_follows_the_realised_count_is_flagged() -> None:
    contributing = int(canaries().included.sum())
    wrong = replace(plan(0.5), cohort=contributing, min_survivors=contributing // 2)
    report = audited(run_round(plan(0.5), wrong, range(NODES)), plan(0.5))
    assert Alarm.EFFECT in report.alarms


def test_shares_sized_for_the_cohort_instead_of_the_survivors_are_flagged() -> None:
    present = Canaries(
        canaries().included[:SURVIVORS], canaries().directions[:SURVIVORS], canaries().nonce
    )
    wrong = replace(plan(1.0), min_survivors=NODES)
    update = run_round(wrong, plan(1.0), range(SURVIVORS))
    report = audit(present, update, Claim.of_plan(plan(1.0), 1), FALSE_ALARM)
    assert report.alarms == (Alarm.NOISE,)
    assert report.noise_ratio == pytest.approx(math.sqrt(SURVIVORS / NODES), rel=0.1)


def test_doubled_participation_is_flagged() -> None:
    update = run_round(plan(1.0), plan(1.0), range(NODES)) + run_round(
        plan(1.0), plan(1.0), range(NODES)
    )
    report = audited(update, plan(1.0), rounds=2)
    assert Alarm.EFFECT in report.alarms
    assert report.effect_ratio == pytest.approx(2.0, abs=0.5)


def test_other_participants_widen_the_tolerance_and_raise_no_alarm() -> None:
    """An unknown contribution of norm 20 clips from nodes that are not the auditor's."""
    generator = np.random.default_rng(3)
    others = generator.standard_normal(DIMENSION)
    others *= 20 / np.linalg.norm(others) / plan(1.0).divisor
    update = run_round(plan(1.0), plan(1.0), range(NODES)) + others
    assert audited(update, plan(1.0)).alarms == ()


# Known answers.


@pytest.mark.parametrize(
    ("m", "r", "v", "delta", "bound"),
    [
        (1000, 1000, 650, 0.0, 0.5082),
        (1000, 100, 95, 0.0, 2.1724),
        (1000, 100, 100, 1e-5, 3.4654),
        (5000, 500, 490, 1e-5, 3.3357),
        (100, 20, 20, 0.0, 1.8227),
    ],
)
def test_one_run_bounds_at_95_per_cent(m: int, r: int, v: int, delta: float, bound: float) -> None:
    """By the formula of jax_privacy (auditing.py), computed when the project was specified."""
    assert one_run_lower_bound(m, r, v, delta) == pytest.approx(bound, abs=1e-4)


@pytest.mark.parametrize("r", [1, 20, 100, 1000])
def test_all_guesses_right_reaches_the_ceiling(r: int) -> None:
    """With delta = 0 the bound solves expit(epsilon)^r = significance (2305.08846, theorem 5.2)."""
    p = 0.05 ** (1 / r)
    assert one_run_lower_bound(r, r, r, 0.0) == pytest.approx(
        max(0, math.log(p / (1 - p))), abs=1e-6
    )


def test_a_true_epsilon_is_refuted_no_more_often_than_the_significance() -> None:
    """Randomised response with epsilon = 1: a guess is right with probability e/(1 + e)."""
    generator = np.random.default_rng(2305)
    correct = generator.binomial(200, math.e / (1 + math.e), size=2000).tolist()
    bounds = {v: one_run_lower_bound(200, 200, v, 0.0) for v in set(correct)}
    refuted = np.mean([bounds[v] > 1 for v in correct])
    assert refuted <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 2000)
    assert refuted >= 0.02


@pytest.mark.parametrize("bad", [(10, 11, 5), (10, 5, 6), (10, 5, -1), (0, 0, 0)])
def test_impossible_counts_are_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="correct <= guesses"):
        one_run_lower_bound(*bad, 0.0)


def test_guesses_take_the_extremes_and_abstain_between() -> None:
    scores = np.array([5.0, -3.0, 0.1, 4.0, -2.0, 0.0])
    included = np.array([True, False, True, False, True, False])
    assert guess(scores, included, 4) == (4, 2)
    assert guess(scores, included, 2) == (2, 2)
    assert guess(scores, included, 0) == (0, 0)


@pytest.mark.parametrize("noise_multiplier", [0.5, 1.0, 2.0, 4.0])
def test_equal_variances_give_the_gaussian_mechanism(noise_multiplier: float) -> None:
    """Balle and Wang's exact calibration, by dp-accounting."""
    epsilon = normal_pair_epsilon(1 / noise_multiplier, 1.0, 1e-5)
    assert get_sigma_gaussian(epsilon, 1e-5) == pytest.approx(noise_multiplier, rel=1e-6)


@pytest.mark.parametrize(
    ("mean", "std"), [(1.0, 1.2), (1.0, 0.7), (0.0, 1.3), (-2.0, 0.9), (3.0, 1.0)]
)
def test_unequal_variances_agree_with_quadrature(mean: float, std: float) -> None:
    x = np.linspace(-25, 25, 1_000_001)
    p, q = stats.norm.pdf(x, mean, std), stats.norm.pdf(x)
    for delta in (1e-2, 1e-4):
        epsilon = normal_pair_epsilon(mean, std, delta)
        grown = math.exp(epsilon)
        integrals = [np.trapezoid(np.maximum(0, a - grown * b), x) for a, b in ((p, q), (q, p))]
        assert max(integrals) == pytest.approx(delta, rel=1e-3)


def test_the_cosine_estimate_recovers_the_gaussian_mechanism() -> None:
    """2302.03098: cosines of included canaries are about N(1/z, 1)/sqrt(d)."""
    generator = np.random.default_rng(2302)
    cosines = (0.5 + generator.standard_normal(20_000)) / math.sqrt(10_000)
    exact = normal_pair_epsilon(0.5, 1.0, 1e-4)
    assert cosine_estimate(cosines, 10_000, 1e-4) == pytest.approx(exact, rel=0.1)
    unrelated = generator.standard_normal(20_000) / 100
    assert cosine_estimate(unrelated, 10_000, 1e-2) < 0.1
    with pytest.raises(ValueError, match="two cosines"):
        cosine_estimate(cosines[:1], 10_000, 1e-4)


def test_a_commitment_binds_coins_directions_and_nonce() -> None:
    secret = Canaries.draw(5, 3)
    expected = hashlib.sha256(
        b"alcove/v1/canaries\0"
        + secret.nonce
        + (5).to_bytes(8, "big")
        + (3).to_bytes(8, "big")
        + bytes(secret.included.tolist())
        + secret.directions.tobytes()
    ).hexdigest()
    assert secret.commitment() == expected
    moved = secret.directions.copy()
    moved[4, 2] = np.nextafter(moved[4, 2], 2)
    flipped = secret.included.copy()
    flipped[0] = not flipped[0]
    for other in (
        Canaries(flipped, secret.directions, secret.nonce),
        Canaries(secret.included, moved, secret.nonce),
        Canaries(secret.included, secret.directions, bytes(32)),
        Canaries.draw(5, 3),
    ):
        assert other.commitment() != expected
    assert repr(secret.nonce) not in repr(secret)


def test_drawn_canaries_are_unit_vectors_with_fair_coins() -> None:
    secret = canaries()
    assert np.linalg.norm(secret.directions, axis=1) == pytest.approx(1.0)
    # Six standard deviations of a fair coin: exceeded with probability 2e-9.
    assert abs(secret.included.mean() - 0.5) < 6 * 0.5 / math.sqrt(NODES)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_canaries_that_say_nothing_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Canaries.draw(*shape)


def test_updates_that_do_not_fit_are_refused() -> None:
    claim = Claim(1.0, 1e-6, 1.0, 1.0)
    with pytest.raises(ValueError, match="does not fit"):
        audit(canaries(), np.zeros(3), claim, 0.05)
    all_in = Canaries(np.ones(2, dtype=np.bool_), np.eye(2), bytes(32))
    with pytest.raises(ValueError, match="one side"):
        audit(all_in, np.zeros(2), claim, 0.05)
