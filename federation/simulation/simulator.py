"""The rounds of a plan, with the coordinator's arithmetic between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from federation.adapter_spec import parameters_from_bytes
from federation.optimiser import OptimiserState, step
from federation.plan_request import ResolvedPlan
from federation.secagg import Refusal
from federation.simulation.randomness import Randomness
from federation.simulation.secure import secure_sum
from federation.simulation.workers import Workers
from privacy.encoding import decode

MOST_FAILURES = 20
"""Of one round, which real nodes would pay for again each time."""


class SimulationError(ValueError):
    """The simulation cannot go on; the message says why and what may help."""


@dataclass(frozen=True, slots=True)
class SimulatedRound:
    """What a round came to.

    Attributes:
        number: from 1, of the attempt: a round that failed is tried again under the next number.
        joined: nodes that were invited.
        survivors: those who sent their vector; it costs them a participation in any case.
        released: whether the survivors were as many as the plan asks for.
        vector: the parameters after it, float32, shape (d,).
    """

    number: int
    joined: int
    survivors: int
    released: bool
    vector: NDArray[np.float32] = field(repr=False)


class Simulation:
    """A federation's rounds. What is drawn depends on the seed and the plan only.

    Every node is always there to be invited, has confirmed all others, and falls silent, if it
    does, before its vector leaves; nodes that leave later are not simulated.
    """

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
        self._nodes = nodes

    def rounds(self) -> Iterator[SimulatedRound]:
        """All rounds that the plan has, and those that failed.

        Raises:
            SimulationError: one round would fail too often, or too few nodes may take part to the
                end, both before the first round; or a step left the range of float32.
        """
        # Who takes part does not depend on what is trained: what must fail fails at once.
        deque(self._attempts(), maxlen=0)
        plan = self._resolved.plan
        vector = parameters_from_bytes(self._resolved.initial, plan.adapter)
        state = OptimiserState.zero(plan.adapter.dimension)
        for number, joined, survivors, released in self._attempts():
            if released:
                mean = self._mean(number, vector, joined, survivors)
                direction = -mean if plan.rows_are_gradients else mean
                vector, state = step(plan.optimiser, state, vector, direction)
                if not np.isfinite(vector).all():
                    raise SimulationError(
                        f"round {number}: the optimiser's step leaves the range of float32: take a "
                        "lower learning rate"
                    )
            yield SimulatedRound(number, len(joined), len(survivors), released, vector)

    def _attempts(self) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], bool]]:
        """Number, invited nodes, survivors, and whether the round is released."""
        plan, privacy = self._resolved.plan, self._resolved.plan.privacy
        if self._nodes < privacy.min_survivors:
            raise SimulationError(
                f"the plan asks for {privacy.min_survivors} survivors of each round, and "
                f"there are {self._nodes} nodes"
            )
        taken = np.zeros(self._nodes, np.int64)
        done = failures = 0
        for number in count(1):
            if done == privacy.rounds:
                return
            willing = np.flatnonzero(taken < privacy.max_participations)
            if len(willing) < privacy.min_survivors:
                raise SimulationError(
                    f"after {done} of {privacy.rounds} rounds only {len(willing)} nodes may take "
                    f"part again, and the plan asks for {privacy.min_survivors} survivors: plan "
                    "for fewer rounds, more participations or more drop-outs"
                )
            joined, survivors = self._members(number, willing)
            try:
                plan.aggregation(len(joined))
            except Refusal as refusal:
                raise SimulationError(
                    f"secure aggregation among {len(joined)} nodes: {refusal.detail}"
                ) from refusal
            # As in an odometer: whoever has sent a vector has paid, whatever came of the round.
            taken[survivors] += 1
            released = len(survivors) >= privacy.min_survivors
            done += released
            failures = 0 if released else failures + 1
            if failures > MOST_FAILURES:
                raise SimulationError(
                    f"{failures} rounds in a row had fewer than {privacy.min_survivors} "
                    f"survivors of {len(joined)} nodes: plan for more drop-outs"
                )
            yield number, joined, survivors, released

    def _members(
        self, number: int, willing: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Who is invited of those whose odometer has room, and who of them survives."""
        chance = self._randomness.generator("members", number)
        invited = min(self._resolved.plan.privacy.cohort, len(willing))
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
