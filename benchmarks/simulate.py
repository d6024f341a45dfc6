"""Clients x rounds per second of a simulated federation, beside Flower's simulation engine.

Both train the same query map on the same synthetic vectors with the same function
(`MapTrainer.local_update`). Flower's clients send their floats and its FedAvg adds them
up: ours does the same but for a clip, and once more with what a private federation needs as well,
the grid and each node's noise. Start-up counts for neither: a short run is taken off a longer one.
Needs `make peers`.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Options, Row, versioned
from federation.plan_request import ResolvedPlan, read_request, resolve
from federation.planning import NOBODY
from federation.rows import MapRows
from federation.simulation.randomness import Randomness
from federation.simulation.run import least_survivors
from federation.simulation.simulator import Simulation
from federation.simulation.vectors import KnownVectors
from federation.simulation.workers import Workers
from retrieval.examples import Example
from retrieval.map_training import MapExample, MapTrainer
from retrieval.query_map import random_basis
from retrieval.training_terms import MapTerms

DIMENSION, RANK = 384, 64
QUESTIONS, NEGATIVES = 12, 4
CLIENTS, ROUNDS = 1_000, 20
FLOWER_CLIENTS, FLOWER_ROUNDS = 50, 21
PROCESSES = os.cpu_count() or 1
TERMS = MapTerms()


def run(options: Options) -> Iterator[Row]:
    """A thousand clients of ours, fewer of Flower's."""
    clients, rounds = (100, 5) if options.quick else (CLIENTS, ROUNDS)
    peer, name = None, None
    if importlib.util.find_spec("flwr") and importlib.util.find_spec("ray"):
        # The first run reads everything from the disk.
        _flower(1)
        start_up, longer_run = _flower(1), _flower(FLOWER_ROUNDS)
        peer = FLOWER_CLIENTS * (FLOWER_ROUNDS - 1) / (longer_run - start_up)
        name = f"{versioned('flwr')} simulation, {FLOWER_CLIENTS} clients"
    for exact, kind in ((True, "without noise"), (False, "with noise")):
        seconds, longer = _ours(clients, rounds, exact=exact)
        start_up, shorter = _ours(clients, 1, exact=exact)
        case = f"clients={clients} rounds={rounds} d={DIMENSION * RANK} {kind}"
        yield Row("simulate", case, "wall time with start-up, s", seconds)
        ours = (longer - shorter) / (seconds - start_up)
        metric = "clients x rounds per second"
        yield Row("simulate", case, metric, ours, peer, name, better="higher")


def _ours(clients: int, rounds: int, *, exact: bool) -> tuple[float, int]:
    """A federation: seconds, and vectors that clients have sent; `exact` leaves the noise out.

    A tenth of them is silent in each round, and does not count.
    """
    resolved = _plan(clients, rounds)
    nodes = [_texts(client) for client in range(clients)]
    texts = [text for node in nodes for _, (one,) in node for text in _of(one)]
    known = KnownVectors(texts, _unit(0, len(texts)))
    blob = resolved.blobs[resolved.plan.adapter.basis_hash]
    make_rows = partial(MapRows, resolved.plan, blob, (), known)
    start = time.perf_counter()
    with Workers(resolved.plan, make_rows, nodes, Randomness(1), PROCESSES) as workers:
        simulation = Simulation(resolved, workers, clients, Randomness(1), drop=0.1, exact=exact)
        vectors = sum(one.survivors for one in simulation.rounds() if one.released)
    return time.perf_counter() - start, vectors


def _plan(clients: int, rounds: int) -> ResolvedPlan:
    fields = {
        "population": "benchmark", "federation": "simulate", "mode": "client",
        "adapter": {
            "kind": "retriever", "base_model": "synthetic", "dimension": DIMENSION, "rank": RANK,
        },
        "noise_multiplier": 1.0, "cohort": clients, "colluders": 0, "rounds": rounds,
        "min_survivors": least_survivors(clients, 0.1, 0),
    }  # fmt: skip
    return resolve(read_request(fields), NOBODY)


def _texts(client: int) -> list[tuple[bytes, tuple[Example, ...]]]:
    """Names of vectors, where a real node has texts."""
    return [
        (
            b"%d" % number,
            (
                Example(
                    b"%d/%d" % (client, number),
                    f"{client}/{number}/question",
                    None,
                    (f"{client}/{number}/positive",),
                    tuple(f"{client}/{number}/negative/{n}" for n in range(NEGATIVES)),
                ),
            ),
        )
        for number in range(QUESTIONS)
    ]


def _of(example: Example) -> list[str]:
    return [example.question, *example.positives, *example.negatives]


def _unit(seed: int, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _flower(rounds: int) -> float:
    """Seconds of `FLOWER_CLIENTS` clients with one core each, as many at once as there are."""
    from flwr.app import ArrayRecord, Context
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    os.environ["OMP_NUM_THREADS"] = "1"
    client, server = ClientApp(), ServerApp()
    client.train()(flower_train)

    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(
            fraction_evaluate=0.0, min_train_nodes=FLOWER_CLIENTS,
            min_available_nodes=FLOWER_CLIENTS,
        )  # fmt: skip
        initial = ArrayRecord(numpy_ndarrays=[np.zeros((RANK, DIMENSION), np.float32)])
        strategy.start(grid=grid, initial_arrays=initial, num_rounds=rounds)

    server.main()(main)
    start = time.perf_counter()
    run_simulation(
        server, client, FLOWER_CLIENTS,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )  # fmt: skip
    return time.perf_counter() - start


def flower_train(message: Any, context: Any) -> Any:
    """One local update, in a process of Ray."""
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

    weights = message.content["arrays"].to_numpy_ndarrays()[0]
    node = int(context.node_config["partition-id"])
    update = _trainer().local_update(_node(node), weights, seed=0)
    moved = (weights + update.reshape(weights.shape)).astype(np.float32)
    content = RecordDict(
        {
            "arrays": ArrayRecord(numpy_ndarrays=[moved]),
            "metrics": MetricRecord({"num-examples": QUESTIONS}),
        }
    )
    return Message(content=content, reply_to=message)


@cache
def _node(number: int) -> list[MapExample]:
    vectors = _unit(number, QUESTIONS * (2 + NEGATIVES)).reshape(QUESTIONS, 2 + NEGATIVES, -1)
    return [
        MapExample(b"%d" % place, own[0], own[1:2], own[2:]) for place, own in enumerate(vectors)
    ]


@cache
def _trainer() -> MapTrainer:
    no_negatives = np.zeros((0, DIMENSION), np.float32)
    return MapTrainer(random_basis(DIMENSION, RANK, 0), no_negatives, TERMS)
