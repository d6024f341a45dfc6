"""`alcove node serve`, killed at random moments of the rounds of `alcove coordinator serve`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import select

from federation.adapter_spec import parameters_hash
from federation.coordinator import enrolment
from federation.invitation import Stage
from federation.odometer_file import OdometerFile
from federation.participant.identity import FederationHome
from federation.participant.policy import ConsentPolicy
from federation.plan import FederationPlan, Timing
from privacy.budget import Step
from storage.coordinator_tables import Message, Participant
from tests.coordinators import initial_parameters
from tests.faults.claims import check_acknowledged, check_at_rest, check_files, check_ledger
from tests.faults.wards import EPSILON, Ward, answering, ward
from tests.federation.participant.plans import BASIS, PUBLIC, SIZE, make_plan
from tests.network import BadNetwork, Faults
from tests.served import alcove_json, start_node, wait

COHORT = 3
KILLS = 3
ROUNDS = 4
MOST_MESSAGES = 5
LONGEST_SECONDS = 0.6
EXIT_SECONDS = 60
NAME = "the-node"
POLICY = ConsentPolicy(
    largest_epsilon=EPSILON,
    largest_delta=1e-3,
    smallest_cohort=COHORT,
    smallest_min_survivors=COHORT,
    lifetime_epsilon=EPSILON,
)
DOCUMENT = b"# Opening hours\n\nThe ferry office is closed on Sundays and on holidays.\n"

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@dataclass
class ServedNode:
    """A node's folder and the process that serves it."""

    home: Path
    process: subprocess.Popen[bytes]
    url: str

    @classmethod
    def create(cls, home: Path) -> ServedNode:
        alcove_json("node", "init", "--home", str(home))
        return cls(home, *start_node(home))

    def owner(self) -> httpx.Client:
        key = json.loads((self.home / "server.json").read_text())["key"]
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def kill(self) -> list[psutil.Process]:
        """SIGKILL for the server; the processes that it had."""
        assert self.process.poll() is None, "the node ended by itself"
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        return children

    def start(self) -> None:
        self.process, self.url = start_node(self.home)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(EXIT_SECONDS)

    def base_model(self) -> str:
        """What a plan has to name for its retriever."""
        with self.owner() as owner:
            models = owner.get("/v1/federation/models").raise_for_status().json()["data"]
        identity: str = next(one["identity"] for one in models if one["kind"] == "retriever")
        return identity

    def fill(self) -> None:
        with self.owner() as owner:
            files = [("file", ("hours.md", DOCUMENT))]
            job = owner.post("/v1/assistants/default/documents", files=files)
            wait(owner, job.raise_for_status().json()["id"])
        self.check_search()

    def check_search(self) -> None:
        """The document is found by what it means."""
        with self.owner() as owner:
            query = {"assistant": "default", "query": "when can I not go to the boat company?"}
            found = owner.post("/v1/search", json=query).raise_for_status().json()["data"]
        assert [hit["name"] for hit in found] == ["hours.md"]

    def join(self, place: Ward, url: str) -> None:
        """Join by the command, and be approved."""
        with self.owner() as owner:
            policy = dataclasses.asdict(POLICY)
            owner.put("/v1/federation/policy", json=policy).raise_for_status()
        token = enrolment.issue_token(place.authority, place.plan.population).reveal()
        alcove_json("node", "join", url, token, "--name", NAME, "--home", str(self.home))
        with place.authority.database.read() as session:
            number = session.scalars(select(Participant.id).where(Participant.name == NAME)).one()
        enrolment.approve(place.authority, number)

    def receipts(self, folder: Path) -> dict[str, bytes]:
        """Every receipt, by round, as the command hands them to an auditor."""
        alcove_json("federation", "receipts", str(folder), "--home", str(self.home))
        found = [path.read_bytes() for path in folder.iterdir()]
        return {json.loads(one)["signed"]["statement"]["round_id"]: one for one in found}

    def debits(self, plan_hash: str) -> tuple[str, ...]:
        """Rounds in the odometer once the node is stopped; reading refuses a second debit."""
        home = FederationHome(self.home / "federation")
        with OdometerFile.open(home.odometer, home.identities, POLICY.limit) as file:
            return file.odometer.rounds(plan_hash, Step.CHARGED)


@contextmanager
def served_node(home: Path) -> Iterator[ServedNode]:
    node = ServedNode.create(home)
    try:
        yield node
    finally:
        node.process.kill()
        node.process.wait()


def plan(identity: str, base_model: str) -> FederationPlan:
    """Everybody is needed in every round, and waited for."""
    terms = {"noise_multiplier": 8.0, "rounds": ROUNDS, "max_participations": ROUNDS}
    return make_plan(
        base_model, coordinator=identity, privacy=terms, timing=Timing(120.0, 120.0, 0.5, 0.0),
        initial_hash=parameters_hash(initial_parameters(SIZE)),
    )  # fmt: skip


def sent(network: BadNetwork) -> dict[tuple[str, str], list[str]]:
    """Hashes of the messages that have left the node, by round and stage."""
    found = defaultdict(list)
    for request in list(network.requests):
        head, _, body = request.partition(b"\r\n\r\n")
        parts = head.split()[1].decode().split("/")
        if parts[-2] == "messages":
            found[parts[-3], parts[-1]].append(hashlib.sha256(body).hexdigest())
    return found


def test_the_served_node_is_killed_at_random(tmp_path: Path) -> None:
    chosen = random.Random(1)
    with served_node(tmp_path / "node" / "home") as node:
        made = partial(plan, base_model=node.base_model())
        with ward(tmp_path / "coordinator" / "home", made, blobs=(BASIS, PUBLIC)) as place:
            place.start()
            place.wait_ready()
            node.fill()
            with BadNetwork(place.url, Faults(), seed=1) as network:
                node.join(place, network.url)
                orphans = []
                with answering(place, COHORT - 1):
                    for _ in range(KILLS):
                        wanted = count(network) + chosen.randint(1, MOST_MESSAGES)
                        place.until(lambda w=wanted: count(network) >= w, "the node goes on")
                        time.sleep(chosen.uniform(0.0, LONGEST_SECONDS))
                        orphans += node.kill()
                        check_at_rest(place)
                        node.start()
                        node.check_search()
                    place.until(place.is_finished, "the rounds are over")
                assert place.released() == ROUNDS
                _, alive = psutil.wait_procs(orphans, EXIT_SECONDS)
                assert alive == [], "a killed node leaves processes behind"
                check(place, node, sent(network), tmp_path / "receipts")


def count(network: BadNetwork) -> int:
    return sum(map(len, sent(network).values()))


def check(
    place: Ward, node: ServedNode, messages: dict[tuple[str, str], list[str]], folder: Path
) -> None:
    """In each round one message a stage, one debit and one receipt, and the coordinator agrees."""
    masked = set()
    for (round_id, stage), hashes in messages.items():
        assert len(set(hashes)) == 1, f"two messages of stage {stage} in round {round_id}"
        if stage == Stage.MASKED:
            masked.add(round_id)
    folder.mkdir()
    receipts = node.receipts(folder)
    node.stop()
    debits = node.debits(place.plan.hash)
    with place.authority.database.read() as session:
        own = select(Message.round_id).join(Participant, Participant.id == Message.participant_id)
        taken = session.scalars(own.where(Participant.name == NAME, Message.stage == Stage.MASKED))
        assert sorted(debits) == sorted(masked) == sorted(taken) == sorted(receipts)
    assert len(debits) == ROUNDS
    place.until(lambda: not any(place.home.vectors.iterdir()), "the vectors are deleted")
    check_at_rest(place)
    check_acknowledged(place)
    check_files(place)
    check_ledger(place, receipts=list(receipts.values()))
