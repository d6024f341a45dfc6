"""Answers computed another way: exact probabilities, and bounds written out from their papers."""

import math

import mpmath
import numpy as np
from numpy.typing import NDArray
from scipy import stats


def discrete_gaussian_pmf(sigma: float, reach: float = 40.0) -> tuple[NDArray, NDArray]:
    """Support and probabilities of N_Z(0, sigma^2), straight from the definition in 2004.00010."""
    bound = math.ceil(reach * sigma) + 1
    x = np.arange(-bound, bound + 1)
    weights = np.exp(-(x.astype(float) ** 2) / (2 * sigma**2))
    return x, weights / weights.sum()


def sum_pmf(sigma: float, shares: int) -> NDArray:
    """Probabilities of a sum of `shares` draws of N_Z(0, sigma^2), by direct convolution."""
    _, one = discrete_gaussian_pmf(sigma)
    total = one
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    return total


def shifted(pmf: NDArray, shift: int) -> tuple[NDArray, NDArray]:
    """The distribution and its shift to the right, on a common support."""
    return np.pad(pmf, (0, shift)), np.pad(pmf, (shift, 0))


def renyi(p: NDArray, q: NDArray, order: float) -> float:
    """Renyi divergence of order `order` of `p` from `q`, where both are positive."""
    both = (p > 1e-290) & (q > 1e-290)
    logs = order * np.log(p[both]) + (1 - order) * np.log(q[both])
    return float(np.log(np.exp(logs - logs.max()).sum()) + logs.max()) / (order - 1)


def hockey_stick(p: NDArray, q: NDArray, epsilon: float) -> float:
    """The least delta for which `p` and `q` are (epsilon, delta)-close in this direction."""
    return float(np.maximum(p - math.exp(epsilon) * q, 0).sum())


def skellam_rdp(l2: float, l1: float, variance: float, order: int) -> float:
    """Bound for Skellam noise of the given variance (2110.04995, Theorem 3.5), integer order."""
    tail = min(((2 * order - 1) * l2**2 + 6 * l1) / (4 * variance**2), 3 * l1 / (2 * variance))
    return order * l2**2 / (2 * variance) + tail


def conditional_sensitivity(units: float, dimension: int, beta: float) -> float:
    """Norm of a vector re-rounded until it is short enough (2102.06387, Proposition 22)."""
    square = (
        units**2
        + dimension / 4
        + math.sqrt(2 * math.log(1 / beta)) * (units + math.sqrt(dimension) / 2)
    )
    return min(math.sqrt(square), units + math.sqrt(dimension))


def sampled_gaussian_rdp(ratio: float, rate: float, order: int) -> float:
    """Integer-order divergence of the sampled Gaussian (1908.10530, section 3.3), 60 digits.

    `ratio` is sensitivity over standard deviation.
    """
    with mpmath.workdps(60):
        q, r = mpmath.mpf(rate), mpmath.mpf(ratio)
        moment = mpmath.fsum(
            mpmath.binomial(order, k)
            * (1 - q) ** (order - k)
            * q**k
            * mpmath.exp((k * k - k) * r**2 / 2)
            for k in range(order + 1)
        )
        return float(mpmath.log(moment) / (order - 1))


def chi_square_p(counts: NDArray, expected: NDArray, least: float = 25.0) -> float:
    """p-value of `counts` against `expected`, neighbouring cells pooled to at least `least`."""
    observed_cells, expected_cells, o, e = [], [], 0.0, 0.0
    for count, mean in zip(counts, expected, strict=True):
        o, e = o + count, e + mean
        if e >= least:
            observed_cells.append(o)
            expected_cells.append(e)
            o = e = 0.0
    observed_cells[-1] += o
    expected_cells[-1] += e
    cells, means = np.array(observed_cells), np.array(expected_cells)
    return float(stats.chi2.sf(((cells - means) ** 2 / means).sum(), len(cells) - 1))
