"""Real nodes over HTTP and the simulation: the same shared adapter, the same epsilons.

A plan without noise cannot be made, and one with so little that it could be overlooked has an
epsilon that no limit admits. So the real nodes draw their samples, coins and noise from the
simulation's seed, and everything else is as they do it: documents, examples, training processes,
masks, HTTP, the coordinator's step.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import select

from federation.adapter_spec import parameters_from_bytes, parameters_to_bytes
from federation.coordinator import versions
from federation.invitation import Stage
from federation.participant import rounds, worker
from federation.participant.identity import FederationHome
from federation.plan import FederationPlan, Optimiser, OptimiserName, Timing
from federation.plan_request import ResolvedPlan
from federation.rows import MapRows
from federation.simulation.randomness import Randomness
from federation.simulation.run import Costs
from federation.simulation.simulator import Simulation
from federation.simulation.vectors import KnownVectors
from federation.simulation.workers import Subjects, Workers
from privacy.encoding import encode_with
from privacy.plan import Mode
from privacy.sampling import sample_rows_with
from privacy.signing import public_key_hex
from retrieval.embedding import Embedder, TextVectors
from retrieval.examples import ExampleSource
from retrieval.training_terms import MapTerms
from storage.coordinator_tables import Role, Round
from tests.api.coordinator.conftest import client_of
from tests.federation.participant.plans import BASIS, PUBLIC, PUBLIC_TEXTS, SIZE
from tests.federation.participant.sites import (
    SUBJECTS,
    LearningSite,
    Member,
    contributions,
    fill,
    learning_site,
    member,
    plans,
    until,
)

SEED = 7
ROUNDS = 2
CLIP = 0.1
PLANS: dict[Mode, dict[str, Any]] = {
    Mode.CLIENT: {
        "optimiser": Optimiser(OptimiserName.FEDAVG, 1.0),
        "privacy": {"sampling_rate": 1.0, "row_cap": None, "planned_rows": None},
    },
    # The coordinator has to keep the momentum between rounds.
    Mode.DOCUMENT: {
        "optimiser": Optimiser(OptimiserName.FEDAVG, 1.0, beta1=0.5),
        "privacy": {"sampling_rate": 0.5, "row_cap": 18, "planned_rows": 18},
    },
}  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", PLANS)
def test_the_simulation_trains_what_real_nodes_train(
    mode: Mode, tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "POLL_SECONDS", 1.0)
    # What is held back follows from it; by another one all of it may be.
    monkeypatch.setattr(FederationHome, "secret", lambda _self: b"s" * 32)
    given = PLANS[mode]
    # So fine that one grid unit is far below what a subject does to a coordinate.
    grid = CLIP / (5000 * math.sqrt(SIZE))
    with ExitStack() as stack:
        site = stack.enter_context(
            learning_site(
                tmp_path / "coordinator", embedder.identity,
                map_terms=MapTerms(temperature=1.0), optimiser=given["optimiser"],
                # Stages end when all have answered, uploads leave when the test says.
                timing=Timing(90.0, 90.0, 600.0, 0.0),
                privacy={"mode": mode, "clip_norm": CLIP, "grid": grid, "noise_multiplier": 0.5}
                | given["privacy"],
            )
        )  # fmt: skip
        members = [stack.enter_context(member(tmp_path / name, embedder)) for name in SUBJECTS]
        for one, (name, words) in zip(members, SUBJECTS.items(), strict=True):
            fill(one.node, one.assistant_id, words)
            one.service.join(site.url, site.token(), name)
        site.approve_all()
        for one in members:
            until(lambda one=one: plans(one), "every node has read the plan")
            assert [row.refusals for row in plans(one)] == [""]
        draw_from_the_seed(monkeypatch, [one.membership().identity for one in members])
        site.start()
        for number in range(1, ROUNDS + 1):
            for one in members:
                upload_when_trained(one, number)
            until(lambda number=number: newest(site) >= number, "the round is released")
        real = released(site)
        with client_of(site.site.coordinator, site.url, Role.AUDITOR) as auditor:
            place = f"/v1/audit/federations/{site.plan.federation}/statement"
            shown = auditor.get(place).json()["guarantees"]
        nodes = [
            examples(one, tmp_path / name) for one, name in zip(members, SUBJECTS, strict=True)
        ]

    simulated = simulate(site.plan, nodes, embedder)
    privacy = site.plan.privacy
    # Processes may differ in a row's last bits, which tips a coordinate to the next grid point at
    # most. The optimiser passes on a mean of such differences, times its rate.
    rows = len(nodes) * (1 if mode is Mode.CLIENT else len(nodes[0]))
    tipped = rows * grid / privacy.divisor * site.plan.optimiser.learning_rate
    tolerance = ROUNDS * tipped
    assert len(real) == len(simulated) == ROUNDS
    assert largest_difference(real, simulated) <= tolerance

    # The noise is the same in all of these: what is left is what the examples did.
    others = {
        "one subject less": simulate(site.plan, [nodes[0][1:], *nodes[1:]], embedder),
        "another learning rate": simulate(
            replace(site.plan, optimiser=replace(site.plan.optimiser, learning_rate=0.9)),
            nodes, embedder,
        ),
    }  # fmt: skip
    for name, other in others.items():
        assert largest_difference(real, other) > 20 * tolerance, name

    costs = Costs.of(privacy)
    assert [one["name"] for one in shown] == [
        "epsilon_coordinator", "epsilon_release", "epsilon_alone"
    ]  # fmt: skip
    assert [one["epsilon"] for one in shown] == [
        costs.epsilon_coordinator, costs.epsilon_release, costs.epsilon_alone
    ]  # fmt: skip
    assert {one["delta"] for one in shown} == {costs.delta}


def simulate(
    plan: FederationPlan, nodes: list[Subjects], embedder: Embedder
) -> list[NDArray[np.float32]]:
    """The vector after each round."""
    every = [one for subjects in nodes for _, own in subjects for one in own]
    texts = [text for one in every for text in (one.question, *one.positives, *one.negatives)]
    texts = list(dict.fromkeys([*PUBLIC_TEXTS, *texts]))
    known = KnownVectors(texts, TextVectors(embedder)(texts))
    blobs = {plan.adapter.basis_hash: BASIS, plan.public_hash: PUBLIC}
    resolved = ResolvedPlan(plan, blobs, parameters_to_bytes(np.zeros(SIZE, np.float32)))
    make_rows = partial(MapRows, plan, BASIS, PUBLIC_TEXTS, known)
    randomness = Randomness(SEED)
    with Workers(plan, make_rows, nodes, randomness, 2) as workers:
        simulation = Simulation(resolved, workers, len(nodes), randomness, drop=0.0)
        return [one.vector for one in simulation.rounds()]


def draw_from_the_seed(monkeypatch: pytest.MonkeyPatch, identities: list[str]) -> None:
    """Nodes draw what the simulation draws for the node of the same place."""
    randomness = Randomness(SEED)
    here = threading.local()
    announced: list[str] = []

    def placed(method: Callable[..., Any]) -> Callable[..., Any]:
        def run(self: rounds.Rounds, round_id: str, *rest: object) -> Any:
            if round_id not in announced:
                announced.append(round_id)
            node = identities.index(public_key_hex(self._identity))
            here.place = (announced.index(round_id) + 1, node)
            return method(self, round_id, *rest)

        return run

    for name in ("_begin", "_masked"):
        monkeypatch.setattr(rounds.Rounds, name, placed(getattr(rounds.Rounds, name)))
    monkeypatch.setattr(
        rounds, "sample_rows",
        lambda count, plan: sample_rows_with(
            count, plan, randomness.keystream("sample", *here.place)
        ),
    )  # fmt: skip
    monkeypatch.setattr(
        rounds, "encode",
        lambda rows, plan: encode_with(
            rows, plan, randomness.rounding("rounding", *here.place),
            randomness.keystream("noise", *here.place),
        ),
    )  # fmt: skip


def examples(one: Member, root: Path) -> Subjects:
    """All subjects of a node, with the examples that it trains on."""
    source = ExampleSource(one.node.database, FederationHome(root / "federation").secret())
    return source.examples(source.subjects())


def upload_when_trained(one: Member, number: int) -> None:
    """Let the vector of a node's round leave when its rows are done."""
    (working,) = one.service._workers.values()

    def is_trained() -> bool:
        entered = contributions(one)
        trainers = [federation.trainer for federation in working._federations.values()]
        return len(entered) == number and any(
            trainer is not None and trainer.wait(max(entered, key=lambda e: e.number).round_id, 0.5)
            for trainer in trainers
        )

    until(is_trained, "the rows are done")
    working._rounds._due = dict.fromkeys(working._rounds._due, time.monotonic())


def newest(site: LearningSite) -> int:
    """Number of the newest version."""
    with site.authority.database.read() as session:
        failed = session.scalars(select(Round).where(Round.stage == Stage.FAILED)).all()
        assert not [one.reason for one in failed]
        return versions.newest(session, site.plan.federation).number


def released(site: LearningSite) -> list[NDArray[np.float32]]:
    """The vector of each version after the first."""
    with site.authority.database.read() as session:
        found = [
            versions.get(session, site.plan.federation, number, whole=True).parameters
            for number in range(1, ROUNDS + 1)
        ]
    return [parameters_from_bytes(parameters, site.plan.adapter) for parameters in found]


def largest_difference(some: list[NDArray[np.float32]], others: list[NDArray[np.float32]]) -> float:
    """Of any coordinate after any round."""
    pairs = zip(some, others, strict=True)
    return max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in pairs)
