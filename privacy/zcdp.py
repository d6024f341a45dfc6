"""Zero-concentrated differential privacy of sums of discrete Gaussians, without sampling.

A mechanism is rho-zCDP if its Renyi divergence is at most rho alpha at every real order alpha > 1
(Bun and Steinke, arXiv 1605.02658, definition 1.1). The rho of compositions add up, adaptive ones
included. A Poisson sample has no useful rho, so none is offered.
"""

import math

from scipy.optimize import minimize_scalar

from privacy.accounting import ROUNDING_MARGIN, DiscreteGaussianSum


def rho(mechanism: DiscreteGaussianSum) -> float:
    """Least rho that the three bounds of arXiv 2102.06387, Proposition 14 give at all orders.

    Two of them are linear in alpha. The first is alpha L2^2 / 2 + tau d, at most
    alpha (L2^2 / 2 + tau d).
    """
    d, tau = mechanism.dimension, mechanism.tau
    l1, l2 = mechanism.l1_over_sigma, mechanism.l2_over_sigma
    least = min(
        l2**2 / 2 + tau * d,
        (l2**2 + 2 * l1 * tau + tau**2 * d) / 2,
        (l2 + tau * math.sqrt(d)) ** 2 / 2,
    )
    return least * (1 + ROUNDING_MARGIN)


def zcdp_to_epsilon(rho: float, delta: float) -> float:
    """Epsilon at `delta` of a rho-zCDP mechanism (arXiv 2004.00010, Proposition 12 and after).

    Every real order gives a valid epsilon; the search only decides how small a one is found.

    Raises:
        ValueError: rho is negative or delta not in (0, 1).
    """
    if not (rho >= 0 and 0 < delta < 1):
        raise ValueError(f"need rho >= 0 and 0 < delta < 1, not {rho} and {delta}")

    def epsilon(log_excess: float) -> float:
        excess = math.exp(log_excess)
        alpha = 1 + excess
        return rho * alpha + math.log(excess / alpha) - math.log(delta * alpha) / excess

    found = minimize_scalar(epsilon, bounds=(-20.0, 40.0), method="bounded")
    return max(0.0, epsilon(float(found.x)))
