"""Renyi accounting at integer orders: sums of discrete Gaussians, and Poisson samples of them.

A mechanism is a frozen record that states all its accounting needs. Adjacency is zero-out: one
row becomes the zero row, and everything else, the noise above all, stays. Everything is in grid
units. Fractional orders are refused: the subsampling bound below has no published proof for them.

Sources: DDG is Kairouz, Liu, Steinke, arXiv 2102.06387; CKS is Canonne, Kamath, Steinke,
arXiv 2004.00010; MTZ is Mironov, Talwar, Zhang, arXiv 1908.10530.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

ORDERS: tuple[int, ...] = (*range(2, 129), 160, 192, 256, 384, 512, 768, 1024)
"""The orders at which every loss in a plan, a budget or a ledger is kept."""

ROUNDING_MARGIN = 1e-10
"""Relative inflation of every divergence: more than float64 can have lost in computing it."""


@dataclass(frozen=True, slots=True)
class DiscreteGaussianSum:
    """An integer vector plus the sum of independent discrete Gaussian noise shares, seen once.

    The row has squared L2 norm at most `l2_squared` (Delta2^2) and `dimension` (d) integer
    coordinates; each of `shares` (n) honest parties adds one draw of N_Z(0, share_sigma^2) to
    each coordinate. Shares beyond those counted are post-processing and never weaken the bound.
    """

    l2_squared: int
    dimension: int
    share_sigma: float
    shares: int

    def __post_init__(self) -> None:
        if self.l2_squared < 0 or self.dimension < 1 or self.shares < 1:
            raise ValueError(f"need l2_squared >= 0, dimension >= 1 and shares >= 1, not {self}")
        if not (math.isfinite(self.share_sigma) and self.share_sigma > 0):
            raise ValueError(f"share_sigma must be positive and finite, not {self.share_sigma}")
        if self.shares > 1 and self.share_sigma < 0.5:
            raise ValueError(
                f"share_sigma {self.share_sigma} is below 1/2 grid unit, where the bound on sums "
                "of discrete Gaussians (DDG, Theorem 1) does not hold"
            )

    @property
    def tau(self) -> float:
        """How far a sum of discrete Gaussians is from one discrete Gaussian (DDG, Theorem 1)."""
        k = np.arange(1, self.shares, dtype=np.float64)
        return 10 * math.fsum(np.exp(-2 * (math.pi * self.share_sigma) ** 2 * k / (k + 1)))

    @property
    def l2_over_sigma(self) -> float:
        """Delta2 over the standard deviation of the whole noise (L2)."""
        return math.sqrt(self.l2_squared / self.shares) / self.share_sigma

    @property
    def l1_over_sigma(self) -> float:
        """Delta1 over the standard deviation of the whole noise (L1).

        Delta1 <= sqrt(d) Delta2, and <= Delta2^2 because |x| <= x^2 for integers.
        """
        l1 = min(math.sqrt(self.dimension * self.l2_squared), float(self.l2_squared))
        return l1 / math.sqrt(self.shares) / self.share_sigma


@dataclass(frozen=True, slots=True)
class PoissonSampled:
    """`mechanism` applied to a row that is present with probability `rate` (q), in secret."""

    mechanism: DiscreteGaussianSum
    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError(f"the sampling rate must lie in (0, 1], not {self.rate}")


def rdp(
    mechanism: DiscreteGaussianSum | PoissonSampled, orders: Sequence[int] = ORDERS
) -> NDArray[np.float64]:
    """Renyi divergence between zero-out neighbours, in both directions, at each of `orders`.

    Returns shape (len(orders),), float64, never below the true bound by rounding.

    Raises:
        ValueError: an order is not an integer above 1.
    """
    _check_orders(orders)
    if isinstance(mechanism, PoissonSampled):
        exact = _sampled_rdp(mechanism, orders)
    else:
        exact = _sum_rdp(mechanism, np.asarray(orders, dtype=np.float64))
    return exact * (1 + ROUNDING_MARGIN)


def rdp_to_epsilon(
    rdp: NDArray[np.float64],
    delta: float,
    *,
    failure: float = 0.0,
    sampler: float = 0.0,
    orders: Sequence[int] = ORDERS,
) -> tuple[float, int]:
    """Smallest epsilon at which the composition is (epsilon, delta)-DP (CKS, Proposition 12).

    Args:
        rdp: composed divergences, shape (len(orders),).
        delta: what the statement may spend in all.
        failure: probability of events that do not depend on the data and void the guarantee.
        sampler: total variation distance of the real noise from the ideal; costs
            (1 + e^epsilon) times itself.
        orders: integer orders of `rdp`; a single one if it had to be fixed in advance.

    Returns:
        Epsilon and the best order. Epsilon is infinite when `delta` does not cover the additions,
        which for the sampler of this package happens above an epsilon of about 40.
    """
    _check_orders(orders)
    if rdp.shape != (len(orders),):
        raise ValueError(f"{len(orders)} orders need a vector of that length, not {rdp.shape}")
    if np.isnan(rdp).any() or (rdp < 0).any():
        raise ValueError("divergences must be numbers and not negative")
    if not 0 < delta < 1 or failure < 0 or sampler < 0:
        raise ValueError("need 0 < delta < 1, failure >= 0 and sampler >= 0")
    alpha = np.asarray(orders, dtype=np.float64)
    charged, slack = 0.0, 1e-9
    while True:
        # What the sampler costs depends on epsilon: charge it at no less than the result.
        left = delta - failure - (1 + math.exp(min(charged, 700.0))) * sampler
        if left <= 0:
            return math.inf, int(orders[0])
        curve = rdp + np.log1p(-1 / alpha) - (math.log(left) + np.log(alpha)) / (alpha - 1)
        # Total variation is at most sqrt(1 - e^-D) (Bretagnolle and Huber 1979): none left to pay.
        curve = np.where(left**2 >= -np.expm1(-rdp), 0.0, curve)
        best = int(np.argmin(curve))
        epsilon = max(0.0, float(curve[best]))
        if epsilon <= charged:
            return epsilon, int(orders[best])
        charged = epsilon + slack
        slack *= 2


def _sum_rdp(mechanism: DiscreteGaussianSum, alpha: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least of the three bounds of DDG, Proposition 14 (equation 17)."""
    d, tau = mechanism.dimension, mechanism.tau
    l1, l2 = mechanism.l1_over_sigma, mechanism.l2_over_sigma
    bounds = (
        alpha / 2 * l2**2 + tau * d,
        alpha / 2 * (l2**2 + 2 * l1 * tau + tau**2 * d),
        alpha / 2 * (l2 + tau * math.sqrt(d)) ** 2,
    )
    least: NDArray[np.float64] = np.minimum.reduce(bounds)
    return least


def _sampled_rdp(sampled: PoissonSampled, orders: Sequence[int]) -> NDArray[np.float64]:
    """Integer-order expansion of the sampled divergence, never above the unsampled one.

    Write P0 for the noise, P1 for the noise moved by the row, P = (1 - q) P0 + q P1, and
    t(k) = (k - 1) eps(k). Expanding the power (MTZ, section 3.3) gives one direction,
        (a - 1) D_a(P || P0) <= log(1 + sum_{k=2}^a C(a, k) (1-q)^(a-k) q^k (e^t(k) - 1)),
    where the terms k = 0 and 1 are folded into the 1, since all weights sum to one.

    The other, D_a(P0 || P), is no larger (MTZ, Theorem 5): x -> s - x swaps P0 and P1, as the
    noise is symmetric, so with r = P1/P0 each moment E_P0[f(r)] is E_P0[f(r) + r f(1/r)] / 2. Let
    u = 1 - q + q r and v = 1 - q + q / r. It is enough that for r >= 1
        u^a + r v^a >= u^(1-a) + r v^(1-a),
    that is sqrt(u) sinh(s ln u) >= r sqrt(v) sinh(s ln 1/v) with s = a - 1/2. The two sides are
    equal at s = 1/2, and u v >= 1 makes the left one grow faster in s.
    """
    alpha = np.asarray(orders)
    k = np.arange(2, max(orders) + 1)
    full = _sum_rdp(sampled.mechanism, k.astype(np.float64))
    unsampled: NDArray[np.float64] = full[alpha - 2]
    if sampled.rate == 1.0:
        return unsampled
    exponent = (k - 1) * full
    log_weights, terms, starts = _expansion(tuple(orders), sampled.rate)
    with np.errstate(divide="ignore", over="ignore"):
        log_terms = log_weights + (exponent + np.log(-np.expm1(-exponent)))[terms]
        peak = np.maximum.reduceat(log_terms, starts)
        peak = np.where(np.isfinite(peak), peak, 0.0)
        sums = np.add.reduceat(np.exp(log_terms - np.repeat(peak, alpha - 1)), starts)
        log_moment = np.log(sums) + peak
    least: NDArray[np.float64] = np.minimum(np.logaddexp(0.0, log_moment) / (alpha - 1), unsampled)
    return least


@lru_cache(maxsize=16)
def _expansion(
    orders: tuple[int, ...], rate: float
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """All terms k = 2..a of all orders a, one order after another.

    Returns ln C(a, k) (1-q)^(a-k) q^k, the positions k - 2, and where each order begins.
    """
    k = np.concatenate([np.arange(2, a + 1) for a in orders])
    a = np.repeat(orders, np.asarray(orders) - 1)
    log_binomial = gammaln(a + 1) - gammaln(k + 1) - gammaln(a - k + 1)
    weights = log_binomial + (a - k) * math.log1p(-rate) + k * math.log(rate)
    return weights, (k - 2).astype(np.intp), np.flatnonzero(k == 2)


def _check_orders(orders: Sequence[int]) -> None:
    for order in orders:
        if isinstance(order, bool) or not isinstance(order, int) or order < 2:
            raise ValueError(f"orders must be integers above 1, where a proof exists, not {order}")
