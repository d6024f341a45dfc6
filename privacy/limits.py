"""What is counted and what bounds it: units, losses, runs, and the Renyi filter.

The filter lets the losses at one order, fixed in advance, never add up to more than a fixed
capacity. The total then satisfies the stated (epsilon, delta) however each next plan was chosen
from what earlier ones released (Feldman and Zrnic, arXiv 2008.11193; for concurrent runs Haney et
al., arXiv 2309.05901). Choosing the best order afterwards is not covered by that proof, so there
is no way to do it here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from privacy.accounting import ORDERS, rdp_to_epsilon
from privacy.guarantee import DeltaTerms, View, round_delta, round_rdp
from privacy.plan import Mode, PrivacyPlan

DELTA_RESERVE = 0.1
"""Share of a limit's delta that is set aside for the terms of delta beside the conversion."""

LARGEST_EPSILON = 100.0
"""A limit above it would protect nobody."""


class Unit(StrEnum):
    """Whom a loss or a limit is about: a whole node, or one subject on a node."""

    NODE = "node"
    SUBJECT = "subject"

    @staticmethod
    def of_mode(mode: Mode) -> Unit:
        """Whom a plan of this mode protects."""
        return Unit.NODE if mode is Mode.CLIENT else Unit.SUBJECT


@dataclass(frozen=True, slots=True)
class RenyiFilter:
    """A limit of (epsilon, delta) for one unit, kept at one Renyi order.

    Raises:
        ValueError: if the order is not one of `ORDERS`, or so low that even a loss of zero
            would not meet (epsilon, delta) at it.
    """

    unit: Unit
    order: int
    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"order {self.order} is not one of the accounted orders")
        if not (0 < self.delta < 1 and 0 < self.epsilon <= LARGEST_EPSILON):
            raise ValueError(f"a limit needs 0 < delta < 1 and 0 < epsilon <= {LARGEST_EPSILON}")
        if not self.capacity > 0:
            raise ValueError(
                f"at order {self.order} no loss is small enough for epsilon {self.epsilon}; "
                "choose a higher order"
            )

    @staticmethod
    def for_run(run: Run, epsilon: float, delta: float) -> RenyiFilter:
        """The limit at the order that admits most participations of a planned run.

        The choice must be made before anything was released, from public plans only.

        Raises:
            ValueError: if no order can mean (epsilon, delta).
        """
        best = max(
            range(len(ORDERS)),
            key=lambda i: _capacity(ORDERS[i], epsilon, delta) / max(run.loss.rdp[i], 1e-300),
        )
        return RenyiFilter(run.unit, ORDERS[best], epsilon, delta)

    @property
    def capacity(self) -> float:
        """Largest total Renyi loss at `order` that means (epsilon, delta)."""
        return _capacity(self.order, self.epsilon, self.delta)

    def bounds(self, run: Run) -> bool:
        """Whether a run's loss says anything about this limit's unit.

        A run that protects nodes protects each subject on them; one that protects subjects gives
        no bound for a whole node.
        """
        return self.unit is Unit.SUBJECT or run.unit is Unit.NODE

    def may_become(self, other: RenyiFilter) -> bool:
        """Whether `other` differs in epsilon at most: the rest is fixed when a limit is set.

        A lower epsilon is a stricter promise. A higher one is a new promise, which must not be
        made because of anything that was learned from a run.
        """
        return replace(self, epsilon=other.epsilon) == other

    def admits(self, loss: Loss) -> bool:
        """Whether a total of `loss` keeps the limit.

        The divergences and the terms of delta each have a fixed bound of their own, as a filter
        of approximate guarantees needs (Whitehouse et al., arXiv 2203.05481).
        """
        terms = loss.terms
        added = terms.secagg + terms.cut + (1 + math.exp(self.epsilon)) * terms.sampler
        spent = loss.rdp[ORDERS.index(self.order)]
        return spent <= self.capacity and added <= DELTA_RESERVE * self.delta

    def epsilon_of(self, loss: Loss) -> float:
        """The epsilon that `loss` means at this order and delta; for display, not for decisions."""
        if loss == ZERO_LOSS:
            return 0.0
        i = ORDERS.index(self.order)
        epsilon, _ = rdp_to_epsilon(
            np.asarray(loss.rdp[i : i + 1]),
            self.delta,
            failure=loss.terms.secagg + loss.terms.cut,
            sampler=loss.terms.sampler,
            orders=(self.order,),
        )
        return epsilon


def _capacity(order: int, epsilon: float, delta: float) -> float:
    """Canonne, Kamath and Steinke, arXiv 2004.00010, Proposition 12, solved for the divergence."""
    left = math.log((1 - DELTA_RESERVE) * delta * order)
    return epsilon - math.log1p(-1 / order) + left / (order - 1)


@dataclass(frozen=True, slots=True)
class Loss:
    """What something costs its unit.

    Attributes:
        rdp: Renyi divergence between zero-out neighbours at `ORDERS`.
        terms: what it adds to delta beside the conversion of `rdp`.
    """

    rdp: tuple[float, ...]
    terms: DeltaTerms

    def __post_init__(self) -> None:
        if len(self.rdp) != len(ORDERS):
            raise ValueError(f"a loss has {len(ORDERS)} orders, not {len(self.rdp)}")
        terms = self.terms
        for number in (*self.rdp, terms.secagg, terms.cut, terms.sampler):
            if not (math.isfinite(number) and number >= 0):
                raise ValueError("a loss is finite and not negative")

    def times(self, count: int) -> Loss:
        """The loss of `count` compositions."""
        return Loss(tuple(count * value for value in self.rdp), self.terms.times(count))

    def plus(self, other: Loss) -> Loss:
        """The loss of both."""
        rdp = tuple(a + b for a, b in zip(self.rdp, other.rdp, strict=True))
        mine, theirs = self.terms, other.terms
        terms = DeltaTerms(
            mine.secagg + theirs.secagg, mine.cut + theirs.cut, mine.sampler + theirs.sampler
        )
        return Loss(rdp, terms)


ZERO_LOSS = Loss((0.0,) * len(ORDERS), DeltaTerms(0.0, 0.0, 0.0))


@dataclass(frozen=True, slots=True)
class Run:
    """The rounds of one plan, all of the same cost.

    Attributes:
        run_id: names the plan and whoever published it, for instance by their hash.
        unit: whom the loss is about.
        participations: most rounds that any unit takes part in (p).
        loss: of one participation.
    """

    run_id: str
    unit: Unit
    participations: int
    loss: Loss

    def __post_init__(self) -> None:
        if self.participations < 1:
            raise ValueError("a run has at least one participation")

    @staticmethod
    def of_plan(run_id: str, plan: PrivacyPlan, view: View = View.COORDINATOR) -> Run:
        """The run of `plan`, at the loss towards `view`.

        A population's budget and its ledger count the loss towards the coordinator. A node's
        odometer may count the larger loss of `View.ALONE`, if its owner trusts no other node.
        """
        rdp = tuple(float(value) for value in round_rdp(plan, view))
        return Run(
            run_id,
            Unit.of_mode(plan.mode),
            plan.max_participations,
            Loss(rdp, round_delta(plan, view)),
        )


def total_loss(charges: Iterable[tuple[Run, int]]) -> Loss:
    """The loss of a unit that took part as often as it may, given the charged rounds of each run.

    A run counts at most `participations` times, because each node enforces that many with its own
    odometer: none lost more, whichever of the rounds it took part in.
    """
    total = ZERO_LOSS
    for run, rounds in charges:
        total = total.plus(run.loss.times(min(rounds, run.participations)))
    return total
