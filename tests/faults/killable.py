"""Nodes in processes of their own for a test to kill, and what must hold of each of them."""

from __future__ import annotations

import json
import multiprocessing
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from sqlalchemy import select

from benchmarks.participants import Vector
from federation.adapter_spec import AdapterKind, AdapterSpec, Block, blob_hash, parameters_hash
from federation.coordinator import enrolment
from federation.invitation import Stage
from federation.odometer_file import OdometerFile
from federation.participant.identity import FederationHome
from federation.participant.policy import ConsentPolicy
from federation.participant.service import FederationService
from federation.plan import FederationPlan, Timing
from privacy.budget import Step
from retrieval.query_map import basis_to_bytes, random_basis
from storage.coordinator_tables import Participant, ParticipantState
from storage.home import NodeHome
from tests.coordinators import initial_parameters
from tests.faults import killed_node
from tests.faults.claims import Find
from tests.faults.killed import DIMENSION, Embedder
from tests.faults.wards import EPSILON, Ward
from tests.federation.participant.plans import make_plan
from tests.nodes import open_database

RANK = 2
SIZE = RANK * DIMENSION
BASIS = basis_to_bytes(random_basis(DIMENSION, RANK, seed=1))
POLICY = ConsentPolicy(
    largest_epsilon=EPSILON,
    largest_delta=1e-3,
    smallest_cohort=3,
    smallest_min_survivors=2,
    lifetime_epsilon=EPSILON,
)
COHORT = 4


def node_plan(identity: str, rounds: int, timing: Timing) -> FederationPlan:
    """A plan that the nodes here can follow, three of the four being enough."""
    spec = AdapterSpec(
        kind=AdapterKind.RETRIEVER,
        base_model=Embedder.identity,
        rank=RANK,
        scale=1.0,
        basis_hash=blob_hash(BASIS),
        blocks=(Block("weights", RANK, DIMENSION),),
    )
    terms = {
        "dimension": SIZE, "grid": 1 / 800, "noise_multiplier": 8.0, "cohort": COHORT,
        "min_survivors": 3, "rounds": rounds, "max_participations": rounds,
    }  # fmt: skip
    return make_plan(
        coordinator=identity, adapter=spec, timing=timing, privacy=terms,
        initial_hash=parameters_hash(initial_parameters(SIZE)),
    )  # fmt: skip


@dataclass
class Killable:
    """One node; its process is killed and started again on its folder."""

    root: Path
    identity: str
    process: BaseProcess | None = field(default=None, repr=False)

    def start(self, clock: Path | None = None, *, full: bool = False) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.faults.killed_node"])
        given = str(self.root), None if clock is None else str(clock), full
        self.process = context.Process(target=killed_node.take_part, args=given, daemon=True)
        self.process.start()

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.exitcode is None, "the node ended by itself"
        self.process.kill()
        self.process.join()

    def noted(self, what: str) -> dict[str, list[str]]:
        """What stands in the journal, by round."""
        found = defaultdict(list)
        path = killed_node.journal(self.root)
        for line in path.read_text().splitlines() if path.exists() else []:
            row = json.loads(line)
            if row["what"] == what:
                found[row["round_id"]].append(row["value"])
        return found

    def debits(self, plan_hash: str) -> tuple[str, ...]:
        """Rounds in the odometer of a node that does not run; reading refuses a second debit."""
        home = FederationHome(self.root / "federation")
        with OdometerFile.open(home.odometer, home.identities, POLICY.limit) as file:
            return file.odometer.rounds(plan_hash, Step.CHARGED)


@contextmanager
def nodes(place: Ward, count: int = COHORT, url: str | None = None) -> Iterator[list[Killable]]:
    """Nodes that have joined and are approved, not started; none outlives the block."""
    made = []
    for number in range(count):
        root = place.home.root.parent / f"node-{number}"
        NodeHome(root).create()
        with open_database(root / "node.db") as database:
            service = FederationService(database, root)
            service.consent.set_policy(POLICY)
            token = enrolment.issue_token(place.authority, place.plan.population).reveal()
            membership = service.join(url or place.url, token, f"node {number}")
            service.close()
        made.append(Killable(root, membership.identity))
    with place.authority.database.read() as session:
        pending = Participant.state == ParticipantState.PENDING
        ids = session.scalars(select(Participant.id).where(pending)).all()
    for found in ids:
        enrolment.approve(place.authority, found)
    try:
        yield made
    finally:
        for one in made:
            if one.process is not None and one.process.exitcode is None:
                one.process.kill()
                one.process.join()


def check_node(place: Ward, node: Killable) -> None:
    """One message for each stage of a round, and no masked one without its one debit."""
    for stage in Stage:
        for round_id, hashes in node.noted(stage).items():
            assert len(set(hashes)) == 1, f"two messages of stage {stage} in round {round_id}"
    debits = set(node.debits(place.plan.hash))
    assert node.noted(Stage.MASKED).keys() <= debits <= node.noted("vector").keys()


def journalled(nodes_: list[Killable]) -> Find:
    """Vectors as the journals have them: after the last one of a round nothing else was masked."""
    by_identity = {node.identity: node for node in nodes_}

    def find(identity: str, round_id: str) -> Vector:
        last = by_identity[identity].noted("vector")[round_id][-1]
        return np.frombuffer(bytes.fromhex(last), np.uint32)

    return find
