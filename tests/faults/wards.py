"""A coordinator in processes of its own, which are killed, and participants that go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from api.coordinator.coordinator import Coordinator
from benchmarks.participants import Participant
from federation.coordinator import federations, populations, versions
from federation.coordinator.authority import Authority
from federation.invitation import Stage
from federation.plan import FederationPlan
from federation.secagg import Refusal
from privacy.budget import Step
from storage.coordinator_home import CoordinatorHome
from storage.coordinator_tables import Federation, FederationState, Round
from tests.coordinators import (
    BASIS,
    PASSAGES,
    POPULATION,
    admit,
    coordinator,
    initial_parameters,
    limit_for,
    noisy_vector,
)
from tests.forked import ENVIRONMENT, ROOT, Forked
from tests.processes import children_with
from tests.served import READY_SECONDS

PATIENCE_SECONDS = 240.0
EPSILON = 50.0


@dataclass
class Ward:
    """A coordinator that is served by processes of its own, always on one port.

    Attributes:
        here: the same coordinator, opened in the test's process to look at and to manage.
        environment: of its processes.
        opened: rounds that someone has tried to help to open.
        done: identity and round of whoever has been acknowledged the last message of it.
        masked: identity and round of each masked vector that was acknowledged.
        refused: how often the participants were answered with a status.
    """

    here: Coordinator
    plan: FederationPlan
    environment: dict[str, str]
    workers: int = 1
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    participants: list[Participant] = field(default_factory=list)
    opened: set[str] = field(default_factory=set)
    done: set[tuple[str, str]] = field(default_factory=set)
    masked: set[tuple[str, str]] = field(default_factory=set)
    refused: Counter[int] = field(default_factory=Counter)

    @property
    def authority(self) -> Authority:
        return self.here.authority

    @property
    def home(self) -> CoordinatorHome:
        return self.here.home

    @property
    def log(self) -> Path:
        """Of all its processes, one after another."""
        return self.home.root.parent / "coordinator.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *module: str) -> None:
        """Serve; `module` with its arguments does it in place of the command line."""
        arguments = [
            "coordinator", "serve", "--home", str(self.home.root), "--port", str(self.port),
            "--workers", str(self.workers),
        ]  # fmt: skip
        with self.log.open("ab") as stream:
            # A session of its own, so that its workers are killed with it, as a power cut does.
            self.process = Forked(
                [sys.executable, "-m", *(module or ("cli.main",)), *arguments],
                env=self.environment, cwd=ROOT, stdout=stream, stderr=stream,
                start_new_session=True,
            )  # fmt: skip
        self.port = self.port or self._announced_port()

    def wait_ready(self) -> None:
        """Return when a worker answers."""
        self.until(self._is_ready, "the coordinator is ready")

    def kill(self) -> None:
        """SIGKILL for all of its processes."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def kill_worker(self, which: int) -> None:
        """SIGKILL for one of several workers; the others go on and another takes its place."""
        assert self.process is not None
        children = children_with("spawn_main", self.process.pid)
        if children:
            children[which % len(children)].kill()

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Return as soon as the condition holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"it never came to this: {what}\n{self._tail()}"
            time.sleep(0.02)

    def rounds(self) -> list[Round]:
        """In the order of their numbers."""
        with self.authority.database.read() as session:
            return list(session.scalars(select(Round).order_by(Round.number)))

    def stage(self) -> Stage | None:
        """Of the round that is not over."""
        with self.authority.database.read() as session:
            found = session.scalar(select(Round.stage).where(Round.ended_at.is_(None)))
            return None if found is None else Stage(found)

    def is_finished(self) -> bool:
        """Whether every round of the plan was run."""
        with self.authority.database.read() as session:
            found = session.get_one(Federation, self.plan.federation)
            return found.state is FederationState.FINISHED

    def released(self) -> int:
        """How many rounds were."""
        with self.authority.database.read() as session:
            return versions.newest(session, self.plan.federation).number

    def _announced_port(self) -> int:
        deadline = time.monotonic() + READY_SECONDS
        while not self.home.address.exists():
            assert time.monotonic() < deadline and self.process is not None
            assert self.process.poll() is None, self._tail()
            time.sleep(0.05)
        url: str = json.loads(self.home.address.read_bytes())["url"]
        return int(url.rpartition(":")[2])

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self._tail()
        try:
            return httpx.get(f"{self.url}/ready").status_code == 200
        except httpx.TransportError:
            return False

    def _tail(self) -> str:
        return self.log.read_text()[-4_000:]


@contextmanager
def ward(
    home: Path,
    plan: Callable[[str], FederationPlan],
    database_url: str | None = None,
    *,
    workers: int = 1,
    blobs: Sequence[bytes] = (BASIS, PASSAGES),
) -> Iterator[Ward]:
    """A coordinator, not served yet, with a federation that runs and has no participants."""
    environment = dict(ENVIRONMENT)
    if database_url is not None:
        environment["ALCOVE_COORDINATOR_DATABASE_URL"] = database_url
    with coordinator(home, database_url) as opened:
        chosen = plan(opened.identity)
        populations.create(opened.authority, chosen.population, limit_for(chosen, EPSILON))
        initial = initial_parameters(chosen.privacy.dimension)
        federations.create(opened.authority, chosen, blobs, initial)
        place = Ward(opened, chosen, environment, workers)
        try:
            yield place
        finally:
            if place.process is not None and place.process.poll() is None:
                place.kill()


@contextmanager
def answering(place: Ward, count: int, url: str | None = None) -> Iterator[None]:
    """Participants that never die, each in a thread, and that start the federation.

    What they cannot send now they send again; an answer that no fault explains fails the test.
    """
    over, problems = threading.Event(), []

    def run(one: Participant) -> None:
        while not over.wait(0.02):
            try:
                for work in one.work():
                    answer(place, one, work["federation"], work["round_id"], Stage(work["stage"]))
            except (httpx.TransportError, Refusal, OperationalError):
                continue  # it or its database was killed; or it asks for what is done
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                place.refused[status] += 1
                if status == 401:
                    _log_in(one)
                elif status not in (404, 409, 503):
                    problems.append(error.response.text)
            except BaseException as error:
                problems.append(repr(error))
                raise

    with ExitStack() as stack:
        for number in range(count):
            http = stack.enter_context(httpx.Client(base_url=url or place.url, timeout=60))
            place.participants.append(Participant(http, place.here.identity, noisy_vector))
            admit(place.authority, place.participants[-1], f"steady {number}")
        threads = [
            threading.Thread(target=run, args=(one,), daemon=True) for one in place.participants
        ]
        for thread in threads:
            thread.start()
        federations.start(place.authority, place.plan.federation)
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert problems == []


def answer(place: Ward, one: Participant, federation: str, round_id: str, stage: Stage) -> None:
    """Answer as a node does: no round again that is over for it, no sum opened that is not paid."""
    if (one.identity, round_id) in place.done:
        return
    if stage is Stage.UNMASKING:
        check_paid(place, round_id)
        place.opened.add(round_id)
    one.answer(federation, round_id, stage).raise_for_status()
    if stage is Stage.MASKED:
        place.masked.add((one.identity, round_id))
    if stage is Stage.UNMASKING:
        place.done.add((one.identity, round_id))


def check_paid(place: Ward, round_id: str) -> None:
    """The budget of a round whose sum is to be opened is charged, durably."""
    with place.authority.database.read() as session:
        round_ = session.get_one(Round, round_id)
        charged = populations.budget(session, POPULATION).rounds(place.plan.hash, Step.CHARGED)
        name = federations.slot_name(place.plan.hash, round_.slot)
        assert name in charged, f"round {round_id} is opened without its charge"


def _log_in(one: Participant) -> None:
    try:
        one.open_session()
    except (httpx.HTTPError, KeyError):
        return  # tried again with the next request
