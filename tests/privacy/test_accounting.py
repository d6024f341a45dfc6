"""Published and independently computed divergences and epsilons.

Each test names the paper or repository file of its numbers. "Computed beforehand" means with
dp-accounting 0.6.0 or by exact summation, and without this code.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import (
    ORDERS,
    DiscreteGaussianSum,
    PoissonSampled,
    rdp,
    rdp_to_epsilon,
)
from tests.privacy import oracles


def gaussian(noise_multiplier: float) -> DiscreteGaussianSum:
    """One share, for which the bound is the Gaussian's own: alpha / (2 z^2)."""
    return DiscreteGaussianSum(l2_squared=1, dimension=1, share_sigma=noise_multiplier, shares=1)


def sampled(noise_multiplier: float, rate: float, steps: int, orders=ORDERS) -> np.ndarray:
    return steps * rdp(PoissonSampled(gaussian(noise_multiplier), rate), orders)


def classic_epsilon(vector: np.ndarray, delta: float) -> float:
    """Conversion of Mironov 2017 (1702.07476, Proposition 3), older and looser than ours."""
    return float(np.min(vector - math.log(delta) / (np.array(ORDERS) - 1)))


def test_vector_1_sampled_gaussian_divergences():
    # google/differential-privacy, rdp_privacy_accountant_test.py
    vector = sampled(2.5, 0.01, 50, orders=(5, 50, 100))
    assert vector == pytest.approx([2.18075656e-3, 2.38460375e-2, 167.416308], rel=1e-4)


@pytest.mark.parametrize("order", [1.5, 2.5, 1, 0, -3, 2.0, True, math.inf])
def test_vector_1_orders_without_a_proof_are_refused(order):
    # The same test of dp-accounting lists orders 1.5 and 2.5; no proof covers them here.
    with pytest.raises(ValueError, match="integers above 1"):
        rdp(PoissonSampled(gaussian(2.5), 0.01), (order,))
    with pytest.raises(ValueError, match="integers above 1"):
        rdp_to_epsilon(np.zeros(1), 1e-6, orders=(order,))


def test_vector_2_conversion_to_epsilon():
    # google/differential-privacy, rdp_privacy_accountant_test.py: epsilon 1 with fine orders.
    epsilon, _ = rdp_to_epsilon(sampled(4.530877117, 1, 1), 1e-6)
    assert 1.0 <= epsilon == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("noise_multiplier", "steps", "published", "converted", "pld"),
    [
        (1.1, 14062, 3.01, 2.5966, 2.3817),
        (1.3, 3515, 1.19, 0.9544, 0.8645),
        (0.7, 10546, 7.10, 6.3195, 5.6394),
    ],
)
def test_vector_3_mnist_of_tensorflow_privacy(noise_multiplier, steps, published, converted, pld):
    # tensorflow/privacy, tutorials/README.md: N=60000, B=256, delta=1e-5, classic conversion.
    # The last two columns: dp-accounting 0.6.0 with fractional orders, and its PLD.
    vector = sampled(noise_multiplier, 256 / 60000, steps)
    assert classic_epsilon(vector, 1e-5) == pytest.approx(published, abs=0.025)
    epsilon, _ = rdp_to_epsilon(vector, 1e-5)
    assert pld < converted - 1e-4 <= epsilon <= 1.01 * converted


@pytest.mark.parametrize(
    ("steps", "published", "classic"), [(10_000, 1.26, 1.2586), (40_000, 2.55, 2.5737)]
)
def test_vector_4_moments_accountant(steps, published, classic):
    # Abadi et al. 2016 (1607.00133), section 3.2: q=.01, sigma=4, delta=1e-5. The last column is
    # dp-accounting's RDP with the conversion of that time.
    vector = sampled(4, 0.01, steps)
    assert classic_epsilon(vector, 1e-5) == pytest.approx(published, abs=0.03)
    assert classic_epsilon(vector, 1e-5) == pytest.approx(classic, rel=1e-3)


def test_vector_4_improved_conversion():
    # dp-accounting 0.6.0: RDP 1.0355, PLD 0.9470.
    epsilon, _ = rdp_to_epsilon(sampled(4, 0.01, 10_000), 1e-5)
    assert epsilon == pytest.approx(1.0355, abs=1e-4)


@pytest.mark.parametrize(
    ("examples", "batch", "noise_multiplier", "epochs", "delta", "epsilon", "order"),
    [
        (60_000, 150, 1.3, 15, 1e-5, 0.7242234026, 19),
        (100_000, 100, 1.0, 30, 1e-7, 1.4154988495, 13),
    ],
)
def test_vector_5_dp_sgd_of_tensorflow_privacy(
    examples, batch, noise_multiplier, epochs, delta, epsilon, order
):
    # tensorflow/privacy, compute_dp_sgd_privacy_test.py.
    steps = math.ceil(epochs * examples / batch)
    found = rdp_to_epsilon(sampled(noise_multiplier, batch / examples, steps), delta)
    assert found == (pytest.approx(epsilon, abs=1e-5), order)


def test_vector_6_rdp_of_opacus():
    # meta-pytorch/opacus, accountants_test.py: z=1.5, q=.04, 2250 steps, delta=1e-5.
    epsilon, _ = rdp_to_epsilon(sampled(1.5, 0.04, 2250), 1e-5)
    assert epsilon == pytest.approx(7.32911117, rel=1e-3)
    assert epsilon > 6.7688  # PLD, dp-accounting 0.6.0


@pytest.mark.parametrize(
    ("noise_multiplier", "rate", "steps", "prv", "pld"),
    [
        (0.8, 0.001, 100, 0.2704, 0.2603),
        (2, 0.05, 100, 1.28364, 1.2736),
        (2, 0.05, 1000, 4.17280, 4.1626),
    ],
)
def test_vector_7_never_below_numerical_accountants(noise_multiplier, rate, steps, prv, pld):
    # microsoft/prv_accountant, by way of Opacus' tests (delta=1e-6); its value is an upper bound.
    epsilon, _ = rdp_to_epsilon(sampled(noise_multiplier, rate, steps), 1e-6)
    assert epsilon > prv > pld


def test_vector_8_dp_sgd_of_jax_privacy():
    # google-deepmind/jax_privacy, accounting.py: z=3, q=.1, T=512, delta=1e-6 has PLD 3.77.
    epsilon, _ = rdp_to_epsilon(sampled(3, 0.1, 512), 1e-6)
    assert 3.77 < epsilon < 1.08 * 3.77


def test_vector_9_short_training_of_tensorflow_privacy():
    # tensorflow/privacy, compute_dp_sgd_privacy_lib_test.py: z=.7, delta=1e-5, 1.2 epochs. At most
    # two uses without sampling, 120 steps at q=.01; its orders are fractional and so a bit lower.
    unsampled, _ = rdp_to_epsilon(sampled(0.7, 1, 2), 1e-5)
    assert 10.8602036 < unsampled < 1.01 * 10.8602036
    amplified, _ = rdp_to_epsilon(sampled(0.7, 0.01, 120), 1e-5)
    assert 3.2392676 < amplified < 1.06 * 3.2392676


@pytest.mark.parametrize(
    ("share_sigma", "shares", "shift", "order", "exact", "bound"),
    [
        (0.5, 8, 1, 2, 0.5561703171, 2.603),
        (0.5, 8, 1, 8, 2.0210278974, 4.103),
        (1, 16, 3, 2, 0.5625000404, 0.563045),
        (1, 16, 3, 8, 2.2500000359, 2.250545),
        (3, 16, 10, 2, 0.6944444444, 0.6944444445),
    ],
)
def test_vector_10_sum_of_discrete_gaussians(share_sigma, shares, shift, order, exact, bound):
    # Computed beforehand: exact one-dimensional divergence of the sum and its shift, and the bound.
    noise, moved = oracles.shifted(oracles.sum_pmf(share_sigma, shares), shift)
    assert oracles.renyi(moved, noise, order) == pytest.approx(exact, abs=1e-8)
    found = rdp(DiscreteGaussianSum(shift**2, 1, share_sigma, shares), (order,))[0]
    assert exact <= found == pytest.approx(bound, rel=2e-4)


def test_vector_10_the_naive_formula_would_under_report():
    # shift^2 alpha / (2 n sigma^2) is the Gaussian's divergence; the exact one is 11% above it.
    assert 0.5561703171 > 1.1 * 0.5
    assert rdp(DiscreteGaussianSum(1, 1, 0.5, 8), (2,))[0] > 0.5561703171


@pytest.mark.parametrize(
    ("variance", "shift", "order", "exact", "bound"),
    [
        (16, 3, 2, 0.5530017069, 0.6064453125),
        (16, 3, 8, 1.7813325086, 2.3994140625),
        (100, 10, 2, 0.9944070727, 1.009),
    ],
)
def test_vector_11_skellam_costs_no_less_than_our_noise(variance, shift, order, exact, bound):
    # Computed beforehand: Skellam noise (2110.04995), the mechanism that we did not choose, beside
    # sixteen discrete Gaussian shares of the same total variance.
    assert oracles.skellam_rdp(shift, shift, variance, order) == pytest.approx(bound, rel=1e-9)
    ours = rdp(DiscreteGaussianSum(shift**2, 1, math.sqrt(variance / 16), 16), (order,))[0]
    assert ours <= bound
    assert ours == pytest.approx(exact, rel=0.27)


@pytest.mark.parametrize(
    ("units", "z", "shares", "dimension", "beta", "steps", "delta", "sensitivity", "epsilon"),
    [
        (102_400, 4, 1000, 2**20, None, 5, 1e-6, 103_424, 2.76776),
        (1024, 4, 1000, 2**20, math.exp(-0.5), 5, 1e-6, 1145.54, 3.094375),
        (64, 2, 100, 2**12, math.exp(-0.5), 10, 1e-5, 72.2219, 9.455049),
    ],
)
def test_vector_12_whole_stack(
    units, z, shares, dimension, beta, steps, delta, sensitivity, epsilon
):
    # Computed beforehand after google-research/federated, distributed_dp/accounting_utils.py. z is
    # here over the clip norm and not, as in a plan, over the sensitivity; `units` is C / gamma.
    l2 = units + math.sqrt(dimension)
    if beta is not None:
        l2 = oracles.conditional_sensitivity(units, dimension, beta)
    assert l2 == pytest.approx(sensitivity, rel=1e-5)
    share_sigma = z * units / math.sqrt(shares)
    noisy = DiscreteGaussianSum(math.ceil(l2**2), dimension, share_sigma, shares)
    found, _ = rdp_to_epsilon(steps * rdp(noisy), delta)
    assert found == pytest.approx(epsilon, rel=1e-4)


def test_vector_12_skellam_costs_the_same():
    # The third line of vector 12 for Skellam noise of the same variance: 9.455647.
    l2 = oracles.conditional_sensitivity(64, 2**12, math.exp(-0.5))
    l1 = l2 * min(64.0, l2)
    vector = np.array([oracles.skellam_rdp(l2, l1, (2 * 64) ** 2, a) for a in ORDERS])
    assert rdp_to_epsilon(10 * vector, 1e-5)[0] == pytest.approx(9.455647, abs=1e-5)


def test_vector_13_one_discrete_gaussian_against_pld():
    # dp-accounting 0.6.0, PLD of the univariate discrete Gaussian, sigma=10, shift 1, delta=1e-6.
    once, _ = rdp_to_epsilon(rdp(gaussian(10)), 1e-6)
    often, _ = rdp_to_epsilon(50 * rdp(gaussian(10)), 1e-6)
    assert 0.396790 < once < 1.1 * 0.396790
    assert 3.307813 < often < 1.09 * 3.307813


def test_vector_14_sampled_symmetric_noise():
    # Computed beforehand: 16 shares of N_Z(0, 1), shift 3, q=.05, order 4. The looser bound of Zhu
    # and Wang 2019 would be 5.943933e-3.
    noise, moved = oracles.shifted(oracles.sum_pmf(1, 16), 3)
    mixture = 0.95 * noise + 0.05 * moved
    present, absent = oracles.renyi(mixture, noise, 4), oracles.renyi(noise, mixture, 4)
    assert (present, absent) == pytest.approx((4.137805e-3, 3.154200e-3), rel=1e-6)
    bound = rdp(PoissonSampled(DiscreteGaussianSum(9, 1, 1, 16), 0.05), (4,))[0]
    assert present <= bound < 1.002 * present
    one_share = rdp(PoissonSampled(DiscreteGaussianSum(9, 1, 4, 1), 0.05), (4,))[0]
    assert one_share == pytest.approx(4.137805e-3, rel=1e-6)


@pytest.mark.parametrize(("cohort", "expected"), [(20, 1.1547), (50, 1.0206), (1000, 1.00005)])
def test_vector_15_two_releases_add_up(cohort, expected):
    # Andrew et al. (1905.03871), Theorem 1: an update with noise z_delta and a clip count with
    # sigma_b = n/20 (sensitivity 1/2, hence multiplier 2 sigma_b) together cost one use of z = 1.
    count = rdp(gaussian(2 * 0.05 * cohort), (8,))[0]
    left = rdp(gaussian(1), (8,))[0] - count
    noise_multiplier = math.sqrt(8 / (2 * left))
    assert noise_multiplier == pytest.approx(expected, abs=5e-5)
    assert count + rdp(gaussian(noise_multiplier), (8,))[0] == pytest.approx(4, rel=1e-9)


@pytest.mark.parametrize(
    ("share_sigma", "excess"),
    [(1, 601), (1.25, 2.12), (1.5, 2.4e-3), (1.75, 7.8e-7), (2, 7.5e-11)],
)
def test_excess_of_a_sum_over_one_discrete_gaussian(share_sigma, excess):
    # Computed beforehand: tau d for 1,000 shares and 2^20 coordinates, why the gate stands at 2.
    tau = DiscreteGaussianSum(1, 2**20, share_sigma, 1000).tau
    assert tau * 2**20 == pytest.approx(excess, rel=0.02)


@settings(deadline=None)
@given(
    shift=st.integers(1, 12),
    share_sigma=st.floats(0.5, 4),
    shares=st.integers(1, 6),
    rate=st.floats(1e-3, 1),
    order=st.integers(2, 32),
)
def test_never_below_the_exact_divergence_in_either_direction(
    shift, share_sigma, shares, rate, order
):
    noise, moved = oracles.shifted(oracles.sum_pmf(share_sigma, shares), shift)
    mixture = (1 - rate) * noise + rate * moved
    bound = rdp(
        PoissonSampled(DiscreteGaussianSum(shift**2, 1, share_sigma, shares), rate), (order,)
    )[0]
    assert oracles.renyi(mixture, noise, order) <= bound + 1e-9
    assert oracles.renyi(noise, mixture, order) <= bound + 1e-9


@pytest.mark.parametrize("ratio", [0.02, 0.4, 3.0])
@pytest.mark.parametrize("rate", [1e-9, 1e-3, 0.4, 0.999])
@pytest.mark.parametrize("order", [2, 17, 128])
def test_rounding_is_upwards_and_small(ratio, rate, order):
    exact = oracles.sampled_gaussian_rdp(ratio, rate, order)
    found = rdp(PoissonSampled(gaussian(1 / ratio), rate), (order,))[0]
    assert exact <= found <= exact * (1 + 2e-10)


def test_delta_pays_for_failures_and_for_the_sampler():
    # CKS (2004.00010), Proposition 12, with delta - failure - (1 + e^epsilon) sampler in its place.
    vector = 5 * rdp(gaussian(2))
    epsilon, order = rdp_to_epsilon(vector, 1e-6, failure=4e-7, sampler=1e-10)
    left = 1e-6 - 4e-7 - (1 + math.exp(epsilon)) * 1e-10
    at_order = order * 5 / 8 + math.log1p(-1 / order) - math.log(left * order) / (order - 1)
    assert at_order <= epsilon < at_order + 1e-6
    assert epsilon > rdp_to_epsilon(vector, 1e-6, failure=4e-7)[0] > rdp_to_epsilon(vector, 1e-6)[0]


@pytest.mark.parametrize(
    ("failure", "sampler"), [(1e-6, 0.0), (0.0, 1e-6), (0.0, 1e-8), (2e-6, 1e-30)]
)
def test_epsilon_is_infinite_where_delta_cannot_pay(failure, sampler):
    vector = 5 * rdp(gaussian(1))
    assert rdp_to_epsilon(vector, 1e-6, failure=failure, sampler=sampler)[0] == math.inf


def test_nothing_released_costs_nothing():
    assert rdp_to_epsilon(np.zeros(len(ORDERS)), 1e-6)[0] == 0
    assert (rdp(PoissonSampled(DiscreteGaussianSum(0, 4, 2.0, 1), 0.5)) == 0).all()


def test_overflow_is_infinite_and_not_an_error():
    vector = rdp(PoissonSampled(DiscreteGaussianSum(10**300, 4, 2.0, 3), 0.5))
    assert rdp_to_epsilon(vector, 1e-6)[0] > 1e200


@pytest.mark.parametrize(
    "make",
    [
        lambda: DiscreteGaussianSum(4, 1, 0.4, 2),
        lambda: DiscreteGaussianSum(4, 1, 0.0, 1),
        lambda: DiscreteGaussianSum(4, 1, math.nan, 1),
        lambda: DiscreteGaussianSum(-1, 1, 1.0, 1),
        lambda: DiscreteGaussianSum(4, 0, 1.0, 1),
        lambda: DiscreteGaussianSum(4, 1, 1.0, 0),
        lambda: PoissonSampled(gaussian(1), 0.0),
        lambda: PoissonSampled(gaussian(1), 1.1),
        lambda: rdp_to_epsilon(np.zeros(3), 1e-6),
        lambda: rdp_to_epsilon(np.full(len(ORDERS), np.nan), 1e-6),
        lambda: rdp_to_epsilon(-np.ones(len(ORDERS)), 1e-6),
        lambda: rdp_to_epsilon(np.zeros(len(ORDERS)), 0.0),
        lambda: rdp_to_epsilon(np.zeros(len(ORDERS)), 1e-6, failure=-1e-9),
    ],
)
def test_what_has_no_meaning_or_no_proof_is_refused(make):
    with pytest.raises(ValueError, match=r"need|must|below 1/2|length"):
        make()
