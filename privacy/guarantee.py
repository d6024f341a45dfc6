"""From a plan to its guarantees: the loss of one participation, and the three epsilons."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from privacy.accounting import ORDERS, DiscreteGaussianSum, PoissonSampled, rdp, rdp_to_epsilon
from privacy.discrete_gaussian import exactness
from privacy.plan import CUT_PROBABILITY, SMALLEST_SHARE_SIGMA, Mode, PrivacyPlan
from privacy.zcdp import rho

ADJACENCY = "zero-out"
"""Neighbours differ in one unit, whose row is zero in one of them; all the noise stays."""

SECAGG_FAILURE = 2.0**-40
"""Probability that secure aggregation opens more than the sum (its graph and threshold)."""


class View(StrEnum):
    """Who looks, and therefore whose noise counts."""

    COORDINATOR = "coordinator"
    """The coordinator and as many colluding survivors as planned: t_min - c shares are unknown."""
    RELEASE = "release"
    """A reader of the released models: t_min shares are unknown."""
    ALONE = "alone"
    """Everybody but the unit's own node, working together: one share is unknown."""


@dataclass(frozen=True, slots=True)
class DeltaTerms:
    """What participations add to delta beside the conversion from Renyi divergence.

    Attributes:
        secagg: probability that secure aggregation fails.
        cut: probability that the cap on rows binds (`smallest_row_cap`).
        sampler: total variation distance of the noise from the ideal (`exactness`); it enters
            delta as (1 + e^epsilon) times itself.
    """

    secagg: float
    cut: float
    sampler: float

    def times(self, count: int) -> "DeltaTerms":
        """The terms of `count` participations."""
        return DeltaTerms(self.secagg * count, self.cut * count, self.sampler * count)


@dataclass(frozen=True, slots=True)
class Epsilon:
    """One guarantee, with everything without which the number means nothing.

    Attributes:
        value: epsilon over all participations of the plan.
        delta: of the statement, all of `terms` included.
        view: against whom it holds.
        trust: what it assumes, in words.
        mode: of the plan.
        order: Renyi order that gave `value`.
        terms: the parts of `delta` that are not the conversion.
        rho: zCDP of all participations; None where sampling is claimed, since it has none.
        two_nodes: epsilon if the same subject sits on two nodes; None in mode `client`.
    """

    value: float
    delta: float
    view: View
    trust: str
    mode: Mode
    order: int
    terms: DeltaTerms
    rho: float | None
    two_nodes: float | None

    @property
    def unit(self) -> str:
        """What is protected."""
        return "node" if self.mode is Mode.CLIENT else "subject"

    @property
    def adjacency(self) -> str:
        """Which inputs the guarantee compares."""
        return ADJACENCY

    def __str__(self) -> str:
        twice = "" if self.two_nodes is None else f" ({self.two_nodes:.4g} if on two nodes)"
        return (
            f"epsilon {self.value:.4g}{twice} at delta {self.delta:.3g}; mode {self.mode}, unit "
            f"{self.unit}, adjacency {self.adjacency}; assumes that {self.trust}"
        )


@dataclass(frozen=True, slots=True)
class Epsilons:
    """The three guarantees that are shown with every plan."""

    coordinator: Epsilon
    release: Epsilon
    alone: Epsilon


def round_rdp(plan: PrivacyPlan, view: View = View.COORDINATOR) -> NDArray[np.float64]:
    """Divergence at each of `ORDERS` that one participation costs its unit; read-only float64."""
    return _round_rdp(plan, view, 1)


def round_delta(plan: PrivacyPlan, view: View = View.COORDINATOR) -> DeltaTerms:
    """What one participation adds to delta beside the conversion of `round_rdp`."""
    return DeltaTerms(
        secagg=SECAGG_FAILURE,
        cut=0.0 if plan.mode is Mode.CLIENT else CUT_PROBABILITY,
        sampler=_shares(plan, view) * plan.dimension * exactness(plan.share_sigma),
    )


def epsilons(plan: PrivacyPlan) -> Epsilons:
    """What the whole plan costs a unit whose node takes part as often as it may."""
    return Epsilons(
        coordinator=_epsilon(plan, View.COORDINATOR),
        release=_epsilon(plan, View.RELEASE),
        alone=_epsilon(plan, View.ALONE),
    )


def epsilon_after(plan: PrivacyPlan, view: View, participations: int) -> tuple[float, int]:
    """Epsilon of the first `participations` of a plan's, and the Renyi order that gave it.

    Raises:
        ValueError: the plan permits fewer, or it is none.
    """
    if not 1 <= participations <= plan.max_participations:
        raise ValueError(
            f"{participations} participations, the plan permits 1 to {plan.max_participations}"
        )
    terms = round_delta(plan, view).times(participations)
    return _convert(participations * round_rdp(plan, view), plan.delta, terms)


def calibrate_noise_multiplier(plan: PrivacyPlan, target_epsilon: float) -> float:
    """The least noise multiplier, to one part in 10^6, with epsilon_coordinator at most the target.

    Only `plan.noise_multiplier` is varied. The gate on `share_sigma` may make the answer larger
    than the target asks for.

    Raises:
        ValueError: no noise that the ring and the sampler have room for reaches the target.
    """
    if not target_epsilon > 0:
        raise ValueError(f"the target epsilon must be positive, not {target_epsilon}")
    unit = plan.share_sigma / plan.noise_multiplier
    # One part in 10^12 inside the limits, so that the plans at both ends are accepted.
    low = SMALLEST_SHARE_SIGMA / unit * (1 + 1e-12)
    high = plan.largest_share_sigma / unit * (1 - 1e-12)

    def reached(noise_multiplier: float) -> bool:
        candidate = replace(plan, noise_multiplier=noise_multiplier)
        epsilon, _ = epsilon_after(candidate, View.COORDINATOR, candidate.max_participations)
        return epsilon <= target_epsilon

    if reached(low):
        return low
    if not reached(high):
        raise ValueError(
            f"epsilon {target_epsilon} needs a noise multiplier above {high:.4g}, for which the "
            "ring of 2^32 and the noise table have no room: take a coarser grid, fewer "
            "participations or a larger delta"
        )
    while high > low * (1 + 1e-6):
        middle = math.sqrt(low * high)
        if reached(middle):
            high = middle
        else:
            low = middle
    return high


def _epsilon(plan: PrivacyPlan, view: View) -> Epsilon:
    p = plan.max_participations
    value, order = epsilon_after(plan, view, p)
    two_nodes = None
    if plan.mode is not Mode.CLIENT:
        terms = round_delta(plan, view).times(2 * p)
        two_nodes = _convert(p * _two_node_rdp(plan, view), plan.delta, terms)[0]
    return Epsilon(
        value=value,
        delta=plan.delta,
        view=view,
        trust=_trust(plan, view),
        mode=plan.mode,
        order=order,
        terms=round_delta(plan, view).times(p),
        rho=p * rho(_mechanism(plan, view, 1)) if plan.sampling_rate == 1.0 else None,
        two_nodes=two_nodes,
    )


def _convert(vector: NDArray[np.float64], delta: float, terms: DeltaTerms) -> tuple[float, int]:
    return rdp_to_epsilon(vector, delta, failure=terms.secagg + terms.cut, sampler=terms.sampler)


def _two_node_rdp(plan: PrivacyPlan, view: View) -> NDArray[np.float64]:
    """Divergence, per permitted participation of each node, for a subject with two nodes' rows.

    The two nodes meet in j rounds and are alone in 2 (p - j): the divergence is linear in j, so
    the worse end bounds it. Where they meet, the rows add up to twice the norm at most, and at
    least one is sampled with probability 1 - (1 - q)^2; given which are, the bound for the larger
    shift covers the smaller. Where each node's noise only covers itself, the losses add up.
    """
    apart = 2 * round_rdp(plan, view)
    if view is View.ALONE:
        return apart
    return np.maximum(apart, _round_rdp(plan, view, 2))


@lru_cache(maxsize=256)
def _round_rdp(plan: PrivacyPlan, view: View, nodes: int) -> NDArray[np.float64]:
    rate = -math.expm1(nodes * math.log1p(-plan.sampling_rate)) if plan.sampling_rate < 1 else 1.0
    vector = rdp(PoissonSampled(_mechanism(plan, view, nodes), rate), ORDERS)
    vector.setflags(write=False)
    return vector


def _mechanism(plan: PrivacyPlan, view: View, nodes: int) -> DiscreteGaussianSum:
    """One round as `view` sees it, for a unit with rows on `nodes` nodes."""
    return DiscreteGaussianSum(
        l2_squared=nodes**2 * plan.sensitivity_squared,
        dimension=plan.dimension,
        share_sigma=plan.share_sigma,
        shares=_shares(plan, view),
    )


def _shares(plan: PrivacyPlan, view: View) -> int:
    match view:
        case View.COORDINATOR:
            return plan.min_survivors - plan.colluders
        case View.RELEASE:
            return plan.min_survivors
        case View.ALONE:
            return 1


def _trust(plan: PrivacyPlan, view: View) -> str:
    match view:
        case View.COORDINATOR:
            return (
                f"at least {plan.min_survivors} nodes are in every opened sum, at most "
                f"{plan.colluders} of them tell the coordinator their noise, and secure "
                "aggregation opens nothing else"
            )
        case View.RELEASE:
            return (
                f"at least {plan.min_survivors} nodes are in every opened sum, and the reader "
                "knows no node's noise and no unreleased sum"
            )
        case View.ALONE:
            return "the unit's own node follows the protocol; nobody else need be trusted"
