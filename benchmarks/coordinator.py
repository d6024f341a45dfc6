"""Rounds of a coordinator with protocol-only participants over HTTP on loopback.

The server is `alcove coordinator serve`, a process of its own. The participants are threads of this
one; they speak the whole protocol and train nothing. In every round one in ten falls silent for
good at a stage drawn at random, so most stages last until their deadline: wall time is mostly the
plan's, and what the server costs is its CPU time, waiting included.
"""

from __future__ import annotations

import random
import ssl
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx
import numpy as np
import psutil
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.coordinator.coordinator import Coordinator
from benchmarks.participants import Participant, Vector
from benchmarks.report import Options, Row
from examples.processes import alcove_json, serve
from federation.coordinator import enrolment, federations, populations
from federation.coordinator.authority import Authority
from federation.invitation import Stage
from federation.plan import FederationPlan
from federation.plan_request import ResolvedPlan, read_request, resolve
from privacy.encoding import encode
from privacy.limits import RenyiFilter
from storage.coordinator_settings import CoordinatorSettings
from storage.coordinator_tables import Participant as ParticipantRow
from storage.coordinator_tables import Round

SEED = 17
POPULATION, FEDERATION = "load", "load"
EMBEDDING, RANK, EPSILON = 16_384, 4, 8.0
DROPPING = 10
"""One participant in so many falls silent in every round."""

MASKED_SECONDS = 15.0
LOOK_SECONDS = 0.2
POLL_SECONDS = 25.0
STAGES = tuple(stage for stage in Stage if not stage.is_over)


@dataclass(frozen=True, slots=True)
class Size:
    """How many participants, for how many rounds, and how long each stage may last."""

    participants: int
    rounds: int
    stage_seconds: float


FULL, QUICK = Size(200, 2, 25.0), Size(30, 1, 5.0)


@dataclass(frozen=True, slots=True)
class Ended:
    """A round that is over; `cpu` and `wall` in seconds from its announcement on."""

    round_id: str
    stage: str
    reason: str | None
    survivors: int | None
    wall: float
    cpu: float


def run(options: Options) -> Iterator[Row]:
    """One plan from its first round to its last."""
    size = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder) / "coordinator"
        alcove_json("coordinator", "init", "--home", str(home))
        coordinator = Coordinator(CoordinatorSettings(home=home))
        stack.callback(coordinator.close)
        authority = coordinator.authority
        plan = _found(authority, size)
        process, url = stack.enter_context(serve(home, "coordinator"))
        crowd = stack.enter_context(_crowd(authority, url, size))
        server = _Server(process.pid)
        ended = _drive(authority, crowd, server, plan)
    case = f"n={size.participants} d={plan.adapter.dimension} drop={100 // DROPPING}%"
    for name, value in _figures(ended, crowd, server).items():
        yield Row("coordinator", case, name, value)


def _found(authority: Authority, size: Size) -> FederationPlan:
    """A population whose budget pays for the plan, and its federation, not started."""
    resolved = _plan(authority.identity, size)
    plan = resolved.plan
    populations.create(
        authority, POPULATION, RenyiFilter.for_run(plan.run, 2 * EPSILON, plan.privacy.delta)
    )
    federations.create(authority, plan, list(resolved.blobs.values()), resolved.initial)
    return plan


def _plan(coordinator: str, size: Size) -> ResolvedPlan:
    request = {
        "population": POPULATION,
        "federation": FEDERATION,
        "adapter": {
            "kind": "retriever", "base_model": "none", "dimension": EMBEDDING, "rank": RANK,
        },
        "mode": "client",
        "epsilon": EPSILON,
        "rounds": size.rounds,
        "cohort": size.participants,
        "drop_out": 0.2,
        "timing": {
            "enlist_seconds": size.stage_seconds, "phase_seconds": size.stage_seconds,
            # The vectors' stage lasts longer by so much: making them is this process's work.
            "training_seconds": 2 * size.stage_seconds + MASKED_SECONDS,
        },
    }  # fmt: skip
    return resolve(read_request(request), coordinator)


class _Server:
    """What the server process has used, with its workers."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak = 0
        self.note_memory()

    def cpu(self) -> float:
        """Seconds of one core, of user and system."""
        return sum(t.user + t.system for t in (p.cpu_times() for p in self._all()))

    def note_memory(self) -> None:
        """Remember the largest resident size, in bytes."""
        self.peak = max(self.peak, sum(p.memory_info().rss for p in self._all()))

    def _all(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


class _Crowd:
    """Participants, each in a thread that does what a node does: poll, answer, poll again."""

    def __init__(self, members: list[Participant]) -> None:
        self.members = members
        self.refused: Counter[str] = Counter()
        self.up: Counter[str] = Counter()
        self.down: Counter[str] = Counter()
        self._random = random.Random(SEED)
        self._lock = threading.Lock()
        self._drops: dict[str, dict[int, Stage]] = {}
        self._over: dict[str, threading.Event] = {}
        self._stopping = threading.Event()

    def live(self, number: int) -> None:
        """One participant's life."""
        own = self.members[number]
        while not self._stopping.is_set():
            try:
                works = own.work(POLL_SECONDS)
            except httpx.HTTPError as error:
                self._note(error)
                continue
            for one in works:
                round_id, stage = one["round_id"], Stage(one["stage"])
                if self._falls_silent(number, round_id, stage):
                    self._over[round_id].wait()
                    break
                try:
                    own.answer(one["federation"], round_id, stage).raise_for_status()
                except httpx.HTTPError as error:
                    self._note(error)

    def end(self, round_id: str) -> None:
        """Wake those who fell silent in it."""
        with self._lock:
            self._over.setdefault(round_id, threading.Event()).set()

    def stop(self) -> None:
        self._stopping.set()
        for over in self._over.values():
            over.set()

    def count(self, request: httpx.Request, response: httpx.Response) -> None:
        """Bytes of bodies and headers, without TLS, of one exchange."""
        with self._lock:
            self.up["bytes"] += _headers(request.headers) + int(
                request.headers.get("content-length", 0)
            )
            self.down["bytes"] += _headers(response.headers) + int(
                response.headers.get("content-length", 0)
            )
            self.up["requests"] += 1

    def _falls_silent(self, number: int, round_id: str, stage: Stage) -> bool:
        with self._lock:
            if round_id not in self._drops:
                count = len(self.members)
                chosen = self._random.sample(range(count), count // DROPPING)
                self._drops[round_id] = {one: self._random.choice(STAGES) for one in chosen}
                self._over.setdefault(round_id, threading.Event())
        return self._drops[round_id].get(number) is stage

    def _note(self, error: httpx.HTTPError) -> None:
        what = type(error).__name__
        if isinstance(error, httpx.HTTPStatusError):
            what = f"{error.response.status_code} {error.response.text[:200]}"
        if not self._stopping.is_set():
            with self._lock:
                self.refused[what] += 1


def _headers(headers: httpx.Headers) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers.raw)


@contextmanager
def _crowd(authority: Authority, url: str, size: Size) -> Iterator[_Crowd]:
    """Enrolled and approved participants, who poll until the end."""
    # One context for all: each loads the machine's certificates, which takes 20 ms and megabytes.
    context = ssl.create_default_context()
    with ExitStack() as stack:
        members: list[Participant] = []
        crowd = _Crowd(members)
        for number in range(size.participants):
            http = stack.enter_context(
                httpx.Client(base_url=url, timeout=120, verify=context, trust_env=False)
            )
            http.event_hooks = {"response": [lambda answer: crowd.count(answer.request, answer)]}
            own = Participant(http, authority.identity, _vector)
            own.enrol(enrolment.issue_token(authority, POPULATION), f"{number}").raise_for_status()
            members.append(own)
        with authority.database.read() as session:
            numbers = session.scalars(select(ParticipantRow.id)).all()
        for number in numbers:
            enrolment.approve(authority, number)
        for own in members:
            own.open_session()
        pool = stack.enter_context(ThreadPoolExecutor(size.participants))
        for number in range(size.participants):
            pool.submit(crowd.live, number)
        try:
            yield crowd
        finally:
            crowd.stop()


def _vector(plan: FederationPlan) -> Vector:
    """An honest contribution: a random update with its share of the noise."""
    row = np.random.default_rng().normal(size=plan.privacy.dimension)
    return encode([(b"row", row)], plan.privacy)


def _drive(
    authority: Authority, crowd: _Crowd, server: _Server, plan: FederationPlan
) -> list[Ended]:
    """Start the federation and watch until as many rounds as planned are released."""
    federations.start(authority, plan.federation)
    wanted = plan.privacy.rounds
    seen: dict[str, tuple[float, float]] = {}
    ended: dict[str, Ended] = {}
    while len(ended) < 2 * wanted and sum(e.reason is None for e in ended.values()) < wanted:
        time.sleep(LOOK_SECONDS)
        now, cpu = time.monotonic(), server.cpu()
        server.note_memory()
        with authority.database.read() as session:
            found = _rounds(session)
        for one in found:
            start = seen.setdefault(one.id, (now, cpu))
            if one.ended_at is not None and one.id not in ended:
                crowd.end(one.id)
                ended[one.id] = Ended(
                    one.id, one.stage, one.reason, one.survivors, now - start[0], cpu - start[1]
                )
    return list(ended.values())


def _rounds(session: Session) -> list[Round]:
    return list(session.scalars(select(Round).order_by(Round.number)))


def _figures(ended: list[Ended], crowd: _Crowd, server: _Server) -> MappingProxyType[str, float]:
    failed = [one for one in ended if one.reason is not None]
    for one in failed:
        print(f"round {one.round_id}: {one.reason}")
    for what, count in crowd.refused.items():
        print(f"{count} times: {what}")
    shares = len(ended) * len(crowd.members)
    return MappingProxyType(
        {
            "rounds released": len(ended) - len(failed),
            "rounds failed": len(failed),
            "fewest survivors": min((one.survivors or 0 for one in ended), default=0),
            "wall time of a round, s": float(np.mean([one.wall for one in ended])),
            "server CPU of a round, s": float(np.mean([one.cpu for one in ended])),
            "server CPU of the worst round, s": max(one.cpu for one in ended),
            "server memory at most, MB": server.peak / 1e6,
            "requests of a participant in a round": crowd.up["requests"] / shares,
            "up of a participant in a round, bytes": crowd.up["bytes"] / shares,
            "down of a participant in a round, bytes": crowd.down["bytes"] / shares,
        }
    )
