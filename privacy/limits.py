"""What is counted and what bounds it: units, losses, runs, and the Renyi filter.

The filter lets the losses at one order, fixed in advance, never add up to more than a fixed
capacity. The total then satisfies the stated (epsilon, delta) however each next plan was chosen
from what earlier ones released (Feldman and Zrnic, arXiv 2008.11193; for concurrent runs Haney et
al., arXiv 2309.05901). Choosing the best order afterwards is not covered by that proof, so there
is no way to do it here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from privacy.accounting import ORDERS, rdp_to_epsilon
from privacy.guarantee import View, round_rdp
from privacy.plan import Mode, PrivacyPlan

DELTA_RESERVE = 0.01
"""Share of a limit's delta that is set aside for failures of the sampler and the protocol."""


class Unit(StrEnum):
    """Whom a loss or a limit is about: a whole node, or one subject on a node."""

    NODE = "node"
    SUBJECT = "subject"


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
        if not (0 < self.delta < 1 and self.epsilon > 0 and math.isfinite(self.epsilon)):
            raise ValueError("a limit needs a finite epsilon > 0 and 0 < delta < 1")
        if self.capacity <= 0:
            raise ValueError(
                f"at order {self.order} no loss is small enough for epsilon {self.epsilon}; "
                "choose a higher order"
            )

    @property
    def capacity(self) -> float:
        """Largest total Renyi loss at `order` that means (epsilon, delta): CKS Prop. 12 inverted.

        CKS is Canonne, Kamath and Steinke, arXiv 2004.00010.
        """
        left = math.log((1 - DELTA_RESERVE) * self.delta * self.order)
        return self.epsilon - math.log1p(-1 / self.order) + left / (self.order - 1)

    def admits(self, loss: Loss) -> bool:
        """Whether a total of `loss` keeps the limit.

        The two sums, of the divergence and of the failures, have fixed bounds of their own, as a
        filter of approximate guarantees needs (Whitehouse et al., arXiv 2203.05481, theorem 1).
        """
        failures = loss.failure + (1 + math.exp(self.epsilon)) * loss.sampler
        spent = loss.rdp[ORDERS.index(self.order)]
        return spent <= self.capacity and failures <= DELTA_RESERVE * self.delta

    def epsilon_of(self, loss: Loss) -> float:
        """The epsilon that `loss` means at this order and delta; for display, not for decisions."""
        i = ORDERS.index(self.order)
        epsilon, _ = rdp_to_epsilon(
            np.asarray(loss.rdp[i : i + 1]),
            self.delta,
            failure=loss.failure,
            sampler=loss.sampler,
            orders=(self.order,),
        )
        return epsilon


@dataclass(frozen=True, slots=True)
class Loss:
    """What something costs its unit.

    Attributes:
        rdp: Renyi divergence between zero-out neighbours at `ORDERS`.
        failure: probability of events that void the guarantee whatever the data.
        sampler: total variation distance of the noise from the ideal.
    """

    rdp: tuple[float, ...]
    failure: float
    sampler: float

    def __post_init__(self) -> None:
        if len(self.rdp) != len(ORDERS):
            raise ValueError(f"a loss has {len(ORDERS)} orders, not {len(self.rdp)}")
        for number in (*self.rdp, self.failure, self.sampler):
            if not (math.isfinite(number) and number >= 0):
                raise ValueError("a loss is finite and not negative")

    def times(self, count: int) -> Loss:
        """The loss of `count` compositions."""
        rdp = tuple(count * value for value in self.rdp)
        return Loss(rdp, count * self.failure, count * self.sampler)

    def plus(self, other: Loss) -> Loss:
        """The loss of both."""
        rdp = tuple(a + b for a, b in zip(self.rdp, other.rdp, strict=True))
        return Loss(rdp, self.failure + other.failure, self.sampler + other.sampler)


ZERO_LOSS = Loss((0.0,) * len(ORDERS), 0.0, 0.0)


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
    def of_plan(run_id: str, plan: PrivacyPlan, *, failure: float, sampler: float) -> Run:
        """The run of `plan`, at the loss that the coordinator sees."""
        unit = Unit.NODE if plan.mode is Mode.CLIENT else Unit.SUBJECT
        rdp = tuple(float(value) for value in round_rdp(plan, View.COORDINATOR))
        return Run(run_id, unit, plan.max_participations, Loss(rdp, failure, sampler))
