"""The nodes of a simulation, spread over processes that each keep their own."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from federation.plan import FederationPlan
from federation.rows import NODE, Row, Rows
from federation.simulation.randomness import Randomness
from privacy.encoding import clip, encode_with
from privacy.sampling import sample_rows_with
from retrieval.examples import Example

Subjects = Sequence[tuple[bytes, Sequence[Example]]]
RowMaker = Callable[[], Rows[Any]]
"""Loads what rows are made with; sent to each process."""


@dataclass(frozen=True, slots=True)
class RoundWork:
    """What the nodes of one process do in a round.

    Attributes:
        number: of the round.
        vector: that it starts from, float32, shape (d,).
        nodes: who survives, by number.
    """

    number: int
    vector: NDArray[np.float32] = field(repr=False)
    nodes: tuple[int, ...]


class SimulatedNodes:
    """Contributions of nodes, as a participant makes them."""

    def __init__(
        self,
        plan: FederationPlan,
        rows: Rows[Any],
        nodes: dict[int, Subjects],
        randomness: Randomness,
    ) -> None:
        self._plan = plan
        self._rows = rows
        self._nodes = {
            number: [(name, rows.prepare(examples)) for name, examples in subjects]
            for number, subjects in nodes.items()
        }
        self._randomness = randomness

    def encoded(self, work: RoundWork) -> Iterator[NDArray[np.uint32]]:
        """Each node's vector before it is masked, uint32, shape (d,)."""
        for node in work.nodes:
            where = (work.number, node)
            yield encode_with(
                self._contribution(work, node),
                self._plan.privacy,
                self._randomness.rounding("rounding", *where),
                self._randomness.keystream("noise", *where),
            )

    def exact(self, work: RoundWork) -> NDArray[np.float64]:
        """The sum of all clipped rows of the nodes, without grid and noise, float64, shape (d,)."""
        total = np.zeros(self._plan.privacy.dimension)
        for node in work.nodes:
            for _, row in self._contribution(work, node):
                total += clip(row, self._plan.privacy.clip_norm)
        return total

    def _contribution(self, work: RoundWork, node: int) -> Iterator[Row]:
        subjects = self._nodes[node]
        where = (work.number, node)
        if not self._plan.rows_are_gradients:
            every = [example for _, own in subjects for example in own]
            seed = self._randomness.number("batches", *where)
            yield NODE, self._rows.of_node(every, work.vector, seed)
            return
        coins = self._randomness.keystream("sample", *where)
        chosen = sample_rows_with(len(subjects), self._plan.privacy, coins)
        yield from self._rows.of_subjects([subjects[place] for place in chosen], work.vector)


class Workers:
    """Processes that hold the nodes between rounds."""

    def __init__(
        self,
        plan: FederationPlan,
        make_rows: RowMaker,
        nodes: Sequence[Subjects],
        randomness: Randomness,
        processes: int,
    ) -> None:
        self._stack = ExitStack()
        self._plan = plan
        self._pools: list[ProcessPoolExecutor] = []
        self._count = min(processes, len(nodes))
        # A fork would copy the locks of threads that the caller has.
        context = multiprocessing.get_context("spawn")
        for place in range(self._count):
            own = {number: nodes[number] for number in range(place, len(nodes), self._count)}
            pool = ProcessPoolExecutor(1, context, _open, (plan, make_rows, own, randomness))
            self._pools.append(self._stack.enter_context(pool))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def total(self, number: int, vector: NDArray[np.float32], nodes: Sequence[int]) -> Any:
        """The sum of the nodes' vectors modulo 2^32, uint32, shape (d,)."""
        total = np.zeros(self._plan.privacy.dimension, np.uint32)
        for part in self._everywhere(_total, number, vector, nodes):
            total += part
        return total

    def exact(self, number: int, vector: NDArray[np.float32], nodes: Sequence[int]) -> Any:
        """The sum of the nodes' clipped rows, float64, shape (d,).

        Rows are added process by process, so that its last bits depend on how many there are.
        """
        return sum(self._everywhere(_exact, number, vector, nodes))

    def vectors(
        self, number: int, vector: NDArray[np.float32], nodes: Sequence[int]
    ) -> dict[int, NDArray[np.uint32]]:
        """Each node's vector before it is masked, by the node's number."""
        every: dict[int, NDArray[np.uint32]] = {}
        for part in self._everywhere(_vectors, number, vector, nodes):
            every |= part
        return every

    def _everywhere(
        self,
        work: Callable[[RoundWork], Any],
        number: int,
        vector: NDArray[np.float32],
        nodes: Sequence[int],
    ) -> list[Any]:
        pending = []
        for place, pool in enumerate(self._pools):
            own = tuple(node for node in nodes if node % self._count == place)
            pending.append(pool.submit(work, RoundWork(number, vector, own)))
        return [part.result() for part in pending]


_nodes: SimulatedNodes
"""Of this process."""


def _open(
    plan: FederationPlan, make_rows: RowMaker, nodes: dict[int, Subjects], randomness: Randomness
) -> None:
    # Ctrl-C goes to the whole group; the parent ends these processes and says what happened.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    global _nodes  # noqa: PLW0603 - what an executor's processes keep has no other place
    rows = make_rows()
    # After it, since a limit is for the libraries that are loaded.
    threadpool_limits(1)
    _nodes = SimulatedNodes(plan, rows, nodes, randomness)


def _total(work: RoundWork) -> NDArray[np.uint32]:
    total = np.zeros(work.vector.shape, np.uint32)
    for vector in _nodes.encoded(work):
        total += vector
    return total


def _exact(work: RoundWork) -> NDArray[np.float64]:
    return _nodes.exact(work)


def _vectors(work: RoundWork) -> dict[int, NDArray[np.uint32]]:
    return dict(zip(work.nodes, _nodes.encoded(work), strict=True))
