"""A second opinion on the epsilons of a ledger, by Google's dp-accounting.

It takes the declared mechanism for a Gaussian one of the same standard deviation, which is what
a sum of discrete Gaussians amounts to when `tau` is zero (arXiv 2102.06387, theorem 1). Only
events that a test of this project has checked are used: `GaussianDpEvent`, alone or inside
`PoissonSampledDpEvent`, at integer orders, under zero-out adjacency (`REPLACE_SPECIAL`).
"""

import math
from collections.abc import Iterable

from dp_accounting import (
    DpEvent,
    GaussianDpEvent,
    NeighboringRelation,
    PoissonSampledDpEvent,
)
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from privacy.ledger_records import Mechanism

LARGEST_PLD_EPSILON = 20.0
"""Above it a privacy loss distribution takes minutes and tells nobody anything."""

Compositions = Iterable[tuple[Mechanism, int]]
"""Mechanisms, each with the number of times that it counts."""


def renyi_epsilon(compositions: Compositions, order: int, delta: float) -> float:
    """Epsilon at one Renyi order, by dp-accounting's RDP accountant."""
    accountant = RdpAccountant([order], NeighboringRelation.REPLACE_SPECIAL)
    for mechanism, count in compositions:
        accountant.compose(_event(mechanism), count)
    return float(accountant.get_epsilon(delta))


def pld_epsilon(compositions: Compositions, delta: float) -> float:
    """Upper bound on epsilon by privacy loss distributions; the tightest, for information."""
    accountant = PLDAccountant(NeighboringRelation.REPLACE_SPECIAL)
    for mechanism, count in compositions:
        accountant.compose(_event(mechanism), count)
    return float(accountant.get_epsilon(delta))


def _event(mechanism: Mechanism) -> DpEvent:
    sigma = math.sqrt(mechanism.honest_shares) * mechanism.share_sigma
    event = GaussianDpEvent(sigma / math.sqrt(mechanism.l2_squared))
    if mechanism.sampling_rate == 1.0:
        return event
    return PoissonSampledDpEvent(mechanism.sampling_rate, event)
