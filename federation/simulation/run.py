"""One simulated federation with all that it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from federation.adapter_spec import parameters_from_bytes
from federation.plan_request import ResolvedPlan
from federation.simulation.population import Population
from federation.simulation.randomness import Randomness
from federation.simulation.scoring import Scores
from federation.simulation.simulator import Simulation
from federation.simulation.workers import RowMaker, Workers
from federation.statement import finite
from privacy.guarantee import epsilons
from privacy.plan import PrivacyPlan

FAILURE_PROBABILITY = 1e-3
"""That a round has fewer survivors than the plan of a simulation asks for."""

Example_contra = TypeVar("Example_contra", contravariant=True)


class Lab(Protocol[Example_contra]):
    """What a simulation needs to know of a kind of adapter.

    Attributes:
        metric: name of what `score` measures.
        scores_rounds: whether a score is cheap enough for every round, and for every node alone.
        make_rows: sent to each process.
    """

    @property
    def metric(self) -> str: ...

    @property
    def scores_rounds(self) -> bool: ...

    @property
    def make_rows(self) -> RowMaker: ...

    def score(self, vector: NDArray[np.float32]) -> Scores:
        """The population's questions under the parameters `vector`, float32, shape (d,)."""
        ...

    def train(self, examples: Sequence[Example_contra], seed: int) -> NDArray[np.float32]:
        """Parameters, shape (d,), trained on all examples in one place, without any privacy."""
        ...


@dataclass(frozen=True, slots=True)
class Point:
    """A round and the quality after it, where it was scored."""

    number: int
    joined: int
    survivors: int
    released: bool
    value: float | None


@dataclass(frozen=True, slots=True)
class Costs:
    """What a private federation costs, over all participations of a node."""

    epsilon_coordinator: float
    epsilon_release: float
    epsilon_alone: float | None
    delta: float
    noise_to_signal: float

    @staticmethod
    def of(plan: PrivacyPlan) -> Costs:
        """An epsilon for which no bound can be shown is None."""
        three = epsilons(plan)
        return Costs(
            three.coordinator.value,
            three.release.value,
            finite(three.alone.value),
            plan.delta,
            plan.noise_to_signal,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulated federation came to; scores are of the same questions throughout.

    Attributes:
        nodes: of the population.
        zero_shot: before any training.
        federated: after the last round.
        without_noise: after the same rounds, of the same survivors, with neither grid nor noise.
        alone: of parameters that each node trains by itself; None where nodes have no questions
            of their own to be scored with, or scores are not cheap.
        pooled: of parameters that are trained on all examples in one place.
        costs: None without privacy.
        history, history_without_noise: by round.
        vector: the parameters after the last round, float32, shape (d,).
    """

    metric: str
    nodes: int
    zero_shot: Scores
    federated: Scores
    without_noise: Scores
    alone: Scores | None
    pooled: Scores
    costs: Costs | None
    seed: int
    history: tuple[Point, ...]
    history_without_noise: tuple[Point, ...]
    vector: NDArray[np.float32] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """The last line of `alcove simulate --json`."""
        values = {
            "zero_shot": self.zero_shot,
            "federated": self.federated,
            "without_noise": self.without_noise,
            "alone": self.alone,
            "pooled": self.pooled,
        }
        return {
            "metric": self.metric,
            "clients": self.nodes,
            **{name: scores and round(scores.mean, 4) for name, scores in values.items()},
            **(asdict(self.costs) if self.costs else dict.fromkeys(Costs.__slots__)),
            "seed": self.seed,
        }


def least_survivors(cohort: int, drop: float, colluders: int) -> int:
    """`min_survivors` of a plan whose nodes drop out by themselves with probability `drop`."""
    # Most of a second, which whoever only reads outcomes does without.
    from scipy.stats import binom

    likely = int(binom.ppf(FAILURE_PROBABILITY, cohort, 1 - drop))
    return min(max(likely, colluders + 2), cohort)


def simulate(
    population: Population,
    lab: Lab[Any],
    resolved: ResolvedPlan,
    *,
    private: bool,
    drop: float,
    secure: bool,
    seed: int,
    processes: int,
    on_round: Callable[[str, Point], None] = lambda which, point: None,
) -> Outcome:
    """Train, and compare.

    Args:
        private: whether the federation has grid and noise; without them it has no epsilon.
        drop, secure: as in `Simulation`.
        processes: over which nodes are spread.
        on_round: called after each round with "federated" or "without_noise".

    Raises:
        SimulationError: the rounds cannot go on.
    """
    plan = resolved.plan
    start = parameters_from_bytes(resolved.initial, plan.adapter)
    randomness = Randomness(seed)
    nodes = [node.subjects for node in population.nodes]

    def run(workers: Workers, which: str, *, exact: bool) -> tuple[list[Point], Any]:
        simulation = Simulation(
            resolved, workers, len(nodes), randomness,
            drop=drop, secure=secure and not exact, exact=exact,
        )  # fmt: skip
        points, vector = [], start
        for one in simulation.rounds():
            vector = one.vector
            value = lab.score(vector).mean if lab.scores_rounds else None
            points.append(Point(one.number, one.joined, one.survivors, one.released, value))
            on_round(which, points[-1])
        return points, vector

    with Workers(plan, lab.make_rows, nodes, randomness, processes) as workers:
        history, vector = run(workers, "federated", exact=not private)
        plain, plain_vector = history, vector
        if private:
            plain, plain_vector = run(workers, "without_noise", exact=True)
    rows = lab.make_rows()
    own = [[x for _, every in subjects for x in rows.prepare(every)] for subjects in nodes]
    zero_shot = lab.score(start)
    return Outcome(
        metric=lab.metric,
        nodes=len(nodes),
        zero_shot=zero_shot,
        federated=lab.score(vector),
        without_noise=lab.score(plain_vector),
        alone=_alone(population, lab, own, zero_shot, seed),
        pooled=lab.score(lab.train([x for every in own for x in every], seed)),
        costs=Costs.of(plan.privacy) if private else None,
        seed=seed,
        history=tuple(history),
        history_without_noise=tuple(plain),
        vector=vector,
    )


def _alone(
    population: Population,
    lab: Lab[Any],
    own: Sequence[list[Any]],
    zero_shot: Scores,
    seed: int,
) -> Scores | None:
    """Each group under the parameters of its one node; one without a node keeps what it had."""
    if not lab.scores_rounds or any(node.name != node.group for node in population.nodes):
        return None
    names = population.scored_groups
    values = zero_shot.values.copy()
    for node, examples in zip(population.nodes, own, strict=True):
        if examples and node.group in names:
            here = zero_shot.groups == names.index(node.group)
            values[here] = lab.score(lab.train(examples, seed)).values[here]
    return Scores(values, zero_shot.groups)
