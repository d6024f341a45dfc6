"""The accountant beside dp-accounting and Opacus, which share no code with it."""

from dataclasses import replace

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld
from dp_accounting.rdp import RdpAccountant
from opacus.accountants import PRVAccountant, RDPAccountant

from privacy.accounting import ORDERS, DiscreteGaussianSum, PoissonSampled, rdp, rdp_to_epsilon
from privacy.guarantee import epsilons, round_rdp
from tests.privacy.plans import CLIENT, DOCUMENT, LOCAL

ZERO_OUT = dp_accounting.NeighboringRelation.REPLACE_SPECIAL
GRID = [(0.7, 0.001, 300), (1.1, 0.02, 1000), (2.0, 0.3, 50), (4.0, 0.01, 10_000), (3.0, 1.0, 7)]


def event(noise_multiplier: float, rate: float, steps: int) -> dp_accounting.DpEvent:
    gaussian = dp_accounting.GaussianDpEvent(noise_multiplier)
    sampled = dp_accounting.PoissonSampledDpEvent(rate, gaussian) if rate < 1 else gaussian
    return dp_accounting.SelfComposedDpEvent(sampled, steps)


def ours(noise_multiplier: float, rate: float, steps: int, delta: float, orders=ORDERS) -> float:
    noisy = DiscreteGaussianSum(1, 1, noise_multiplier, 1)
    vector = steps * rdp(PoissonSampled(noisy, rate), orders)
    return rdp_to_epsilon(vector, delta, orders=orders)[0]


@pytest.mark.parametrize(("noise_multiplier", "rate", "steps"), GRID)
def test_equal_to_rdp_of_dp_accounting_at_whole_orders(noise_multiplier, rate, steps):
    accountant = RdpAccountant(orders=ORDERS, neighboring_relation=ZERO_OUT)
    accountant.compose(event(noise_multiplier, rate, steps))
    theirs = accountant.get_epsilon(1e-6)
    assert ours(noise_multiplier, rate, steps, 1e-6) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(("noise_multiplier", "rate", "steps"), GRID)
def test_equal_to_rdp_of_opacus_at_whole_orders(noise_multiplier, rate, steps):
    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, rate, steps)]
    orders = range(2, 129)
    theirs = accountant.get_epsilon(1e-6, alphas=list(orders))
    assert ours(noise_multiplier, rate, steps, 1e-6, orders) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(("noise_multiplier", "rate", "steps"), GRID)
def test_never_below_pld_of_dp_accounting(noise_multiplier, rate, steps):
    accountant = pld.PLDAccountant(ZERO_OUT, value_discretization_interval=1e-3)
    accountant.compose(event(noise_multiplier, rate, steps))
    theirs = accountant.get_epsilon(1e-6)
    assert theirs <= ours(noise_multiplier, rate, steps, 1e-6)


@pytest.mark.parametrize(("noise_multiplier", "rate", "steps"), [(1.1, 0.02, 1000), (2, 0.3, 50)])
def test_never_below_prv_of_opacus(noise_multiplier, rate, steps):
    accountant = PRVAccountant()
    accountant.history = [(noise_multiplier, rate, steps)]
    theirs = accountant.get_epsilon(1e-6, eps_error=0.01)
    # PRV rounds up by its error, 0.01.
    assert theirs - 0.02 <= ours(noise_multiplier, rate, steps, 1e-6) < 1.6 * theirs


def test_plans_agree_with_the_gaussian_of_their_noise():
    # The independent check of an audit: tau is negligible, so RDP of the Gaussian is the same.
    for plan in (CLIENT, DOCUMENT, LOCAL):
        unknown = plan.min_survivors - plan.colluders
        z = unknown**0.5 * plan.share_sigma / plan.sensitivity
        accountant = RdpAccountant(orders=ORDERS, neighboring_relation=ZERO_OUT)
        accountant.compose(event(z, plan.sampling_rate, plan.max_participations))
        found, _ = rdp_to_epsilon(plan.max_participations * round_rdp(plan), plan.delta)
        assert found == pytest.approx(accountant.get_epsilon(plan.delta), rel=1e-9)


def test_cap_on_rows_is_covered_by_truncated_sampling():
    # dp-accounting's exact treatment of truncated Poisson batches (2508.15089).
    truncated = dp_accounting.TruncatedSubsampledGaussianDpEvent(
        dataset_size=DOCUMENT.planned_rows,
        sampling_probability=DOCUMENT.sampling_rate,
        truncated_batch_size=DOCUMENT.row_cap,
        noise_multiplier=DOCUMENT.noise_multiplier,
    )
    accountant = pld.PLDAccountant(ZERO_OUT, value_discretization_interval=1e-3)
    accountant.compose(truncated, DOCUMENT.max_participations)
    theirs = accountant.get_epsilon(DOCUMENT.delta)
    assert theirs <= epsilons(DOCUMENT).coordinator.value < 2 * theirs


def test_a_subject_on_two_nodes_is_covered_by_the_exact_mixture():
    # MixtureOfGaussians: none, one or both of the subject's rows are in the sum.
    plan = replace(DOCUMENT, noise_multiplier=3.0)
    q = plan.sampling_rate
    mixture = dp_accounting.dp_event.MixtureOfGaussiansDpEvent(
        plan.noise_multiplier, [0.0, 1.0, 2.0], [(1 - q) ** 2, 2 * q * (1 - q), q**2]
    )
    relation = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    accountant = pld.PLDAccountant(relation, value_discretization_interval=1e-3)
    accountant.compose(mixture, plan.max_participations)
    theirs = accountant.get_epsilon(plan.delta)
    found = epsilons(plan).coordinator
    assert found.value < theirs <= found.two_nodes


def test_replace_one_would_need_twice_the_sensitivity():
    # dp-accounting 0.6.0, PLD: z=2, p=5, delta=1e-6 is 5.551 by zero-out, 12.595 by replace-one.
    zero_out, replace_one = ours(2.0, 1.0, 5, 1e-6), ours(1.0, 1.0, 5, 1e-6)
    assert 5.551 < zero_out < 1.08 * 5.551
    assert 12.595 < replace_one < 1.08 * 12.595
    assert np.log(replace_one / zero_out) > 0.7
