"""The rounds of a plan, with the coordinator's arithmetic between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from federation.adapter_spec import parameters_from_bytes
from federation.optimiser import OptimiserState, step
from federation.plan_request import ResolvedPlan
from federation.simulation.randomness import Randomness
from federation.simulation.secure import secure_sum
from federation.simulation.workers import Workers
from privacy.encoding import decode

MOST_FAILURES = 20


class SimulationError(ValueError):
    """The simulation cannot go on; the message says why and what may help."""


@dataclass(frozen=True, slots=True)
class SimulatedRound:
    """What a round came to.

    Attributes:
        number: from 1, of the attempt: a round that failed is tried again under the next number.
        joined: nodes that were invited.
        survivors: those whose vector is in the sum.
        released: whether the survivors were as many as the plan asks for.
        vector: the parameters after it, float32, shape (d,).
    """

    number: int
    joined: int
    survivors: int
    released: bool
    vector: NDArray[np.float32] = field(repr=False)


class Simulation:
    """A federation's rounds. What is drawn depends on the seed and the plan only."""

    def __init__(
        self,
        resolved: ResolvedPlan,
        workers: Workers,
        nodes: int,
        randomness: Randomness,
        *,
        drop: float,
        secure: bool = False,
        exact: bool = False,
    ) -> None:
        """Prepare.

        Args:
            nodes: in the population.
            drop: probability that an invited node falls silent before its vector leaves.
            secure: add up through secure aggregation, which gives the same sums.
            exact: neither grid nor noise, only clipping: the same federation without privacy.
        """
        self._resolved = resolved
        self._workers = workers
        self._randomness = randomness
        self._drop = drop
        self._secure = secure
        self._exact = exact
        self._takes = np.zeros(nodes, np.int64)

    def rounds(self) -> Iterator[SimulatedRound]:
        """All rounds that the plan has, and those that failed, since too few survived.

        Raises:
            SimulationError: one round failed too often, or no node may take part any more.
        """
        plan = self._resolved.plan
        if len(self._takes) < plan.privacy.min_survivors:
            raise SimulationError(
                f"the plan asks for {plan.privacy.min_survivors} survivors of each round, and "
                f"there are {len(self._takes)} nodes"
            )
        vector = parameters_from_bytes(self._resolved.initial, plan.adapter)
        state = OptimiserState.zero(plan.adapter.dimension)
        left, failures = plan.privacy.rounds, 0
        for number in count(1):
            if left == 0:
                return
            joined, survivors = self._members(number)
            released = len(survivors) >= plan.privacy.min_survivors
            failures = 0 if released else failures + 1
            if failures > MOST_FAILURES:
                raise SimulationError(
                    f"{failures} rounds in a row had fewer than {plan.privacy.min_survivors} "
                    f"survivors of {len(joined)} nodes: plan for more drop-outs"
                )
            if released:
                left -= 1
                self._takes[survivors] += 1
                mean = self._mean(number, vector, joined, survivors)
                direction = -mean if plan.rows_are_gradients else mean
                vector, state = step(plan.optimiser, state, vector, direction)
            yield SimulatedRound(number, len(joined), len(survivors), released, vector)

    def _members(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Who is invited, among those whose odometer has room, and who of them survives."""
        privacy = self._resolved.plan.privacy
        chance = self._randomness.generator("members", number)
        willing = np.flatnonzero(self._takes < privacy.max_participations)
        invited = min(privacy.cohort, len(willing))
        joined = np.sort(chance.choice(willing, invited, replace=False))
        return joined, joined[chance.random(invited) >= self._drop]

    def _mean(
        self,
        number: int,
        vector: NDArray[np.float32],
        joined: NDArray[np.int64],
        survivors: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        plan = self._resolved.plan
        nodes = [int(node) for node in survivors]
        if self._exact:
            total: NDArray[np.float64] = self._workers.exact(number, vector, nodes)
            return total / plan.privacy.divisor
        if not self._secure:
            return decode(self._workers.total(number, vector, nodes), plan.privacy)
        places = {int(node): place for place, node in enumerate(joined)}
        vectors = self._workers.vectors(number, vector, nodes)
        by_place = {places[node]: own for node, own in vectors.items()}
        return decode(secure_sum(plan, number, len(joined), by_place), plan.privacy)
