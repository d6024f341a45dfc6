"""zCDP beside the Renyi curve that it bounds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.accounting import ORDERS, DiscreteGaussianSum, rdp, rdp_to_epsilon
from privacy.zcdp import rho, zcdp_to_epsilon


def test_one_discrete_gaussian():
    # Theorem 4 of 2004.00010: sigma^2 = Delta^2 / epsilon^2 gives epsilon^2 / 2.
    assert rho(DiscreteGaussianSum(9, 16, 4.0, 1)) == pytest.approx(9 / 16 / 2, rel=1e-9)


@given(
    l2_squared=st.integers(1, 10**6),
    dimension=st.integers(1, 10**6),
    share_sigma=st.floats(0.5, 50),
    shares=st.integers(1, 40),
)
def test_covers_the_renyi_curve_at_every_order(l2_squared, dimension, share_sigma, shares):
    noisy = DiscreteGaussianSum(l2_squared, dimension, share_sigma, shares)
    assert (rdp(noisy) <= rho(noisy) * np.array(ORDERS) * (1 + 1e-9)).all()


@pytest.mark.parametrize(
    ("noise_multiplier", "steps", "delta", "epsilon"),
    [
        # google/differential-privacy, rdp_privacy_accountant_test.py.
        (4.530877117, 1, 1e-6, 1.0),
        # tensorflow/privacy, compute_dp_sgd_privacy_lib_test.py, without sampling.
        (0.7, 2, 1e-5, 10.8602036),
    ],
)
def test_published_epsilons(noise_multiplier, steps, delta, epsilon):
    found = zcdp_to_epsilon(steps / (2 * noise_multiplier**2), delta)
    assert found <= epsilon * (1 + 1e-9)
    assert found == pytest.approx(epsilon, rel=3e-4)


@given(rho=st.floats(1e-4, 50), delta=st.floats(1e-12, 0.1))
def test_all_real_orders_do_at_least_as_well_as_whole_ones(rho, delta):
    whole, _ = rdp_to_epsilon(rho * np.array(ORDERS), delta)
    best = zcdp_to_epsilon(rho, delta)
    assert best <= whole + 1e-9
    # Bun and Steinke (1605.02658), Proposition 1.3.
    assert best <= rho + 2 * math.sqrt(rho * math.log(1 / delta))


def test_no_cost_is_no_cost():
    assert zcdp_to_epsilon(0.0, 1e-6) == 0


@pytest.mark.parametrize(("cost", "delta"), [(-1.0, 1e-6), (1.0, 0.0), (1.0, 1.0), (math.nan, 0.1)])
def test_what_has_no_meaning_is_refused(cost, delta):
    with pytest.raises(ValueError, match="need rho"):
        zcdp_to_epsilon(cost, delta)
