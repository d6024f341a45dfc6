"""Secure aggregation beside Flower's SecAgg+: one round in one process, nothing sent anywhere.

Times are CPU seconds, hence the wall time of a core that does nothing else; "wall time" is that of
all clients in turn plus the server.
Both sides get the same graph: complete, or 21 shares a client. In the cases with drop-outs every
tenth client falls silent after sharing its keys, which is the only moment at which Flower's
workflow survives it. Flower's client quantises its floats before masking them; ours is handed the
integers that `privacy.encoding` makes.

A complete graph with Flower takes minutes to an hour, so its numbers are kept in
`flower_secagg.json` by version. Cases that took it less than half a minute are measured again if
flwr is installed (`make peers`); `--full` measures all of them again.
`python -m benchmarks.secagg CASE ...` measures the named cases with Flower and stores them.
"""

import gc
import importlib
import importlib.util
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.report import Options, Row, header, versioned
from federation.secagg.client.machine import Client, Snapshot
from federation.secagg.config import RoundConfig
from federation.secagg.server.machine import Server
from federation.secagg.threat_model import HonestButCurious

STORED = Path(__file__).with_name("flower_secagg.json")
SHARES = 21
QUICK_SECONDS = 30.0


@dataclass(frozen=True)
class Case:
    """One round: n clients, vectors of d words, and how many shares each secret is cut into."""

    clients: int
    dimension: int
    percent: int
    shares: int

    @property
    def name(self) -> str:
        graph = "complete" if self.shares == self.clients else f"shares={self.shares}"
        return f"n={self.clients} d={self.dimension} drop={self.percent}% {graph}"

    @property
    def silent(self) -> int:
        return self.clients * self.percent // 100

    @property
    def threshold(self) -> int:
        return self.shares // 2 + 1


@dataclass(frozen=True)
class Measured:
    """CPU seconds and bytes of one round."""

    total: float
    server: float
    client: float
    upload: float


METRICS = {
    "total": "wall time of one core, s",
    "server": "server time, s",
    "client": "time per client, s",
    "upload": "upload per client, bytes",
}
CASES = [
    Case(n, d, percent, shares)
    for n in (10, 50, 100)
    for d in (100_000, 1_000_000)
    for percent in (0, 10)
    for shares in sorted({n, min(n, SHARES)})
]


def run(options: Options) -> Iterator[Row]:
    """All cases, then a thousand clients without a peer."""
    stored = _stored()
    for case in CASES:
        ours = min((measure_ours(case) for _ in range(2)), key=lambda m: m.total)
        peer, peer_name = _peer(case, stored, options)
        for key, metric in METRICS.items():
            theirs = getattr(peer, key) if peer else None
            yield Row("secagg", case.name, metric, getattr(ours, key), theirs, peer_name)
    yield from _thousand_clients()


def measure_ours(case: Case) -> Measured:
    """One round of ours; the sum is checked."""
    config, identities = _round(case)
    vectors = _vectors(case)
    silent = set(range(case.silent))
    clock = _Clock()
    clients = [clock("client", Client.start, config, key, _keep_nothing) for key in identities]
    server = Server(config)
    uploads = [0] * case.clients
    for index, client in enumerate(clients):
        uploads[index] += len(client.message)
        clock("server", server.receive, index, client.message)
    for stage in range(4):
        clock("server", server.close)
        for index, request in server.outbox.items():
            if stage == 0 or index not in silent:
                vector = vectors[index % len(vectors)]
                reply = clock("client", _answer, clients[index], stage, request, vector)
                uploads[index] += len(reply)
                clock("server", server.receive, index, reply)
    aggregate = clock("server", server.open)
    expected = sum(vectors[i % len(vectors)].astype(np.uint64) for i in aggregate.survivors)
    if not np.array_equal(aggregate.total, np.asarray(expected % 2**32, np.uint32)):
        raise AssertionError("the sum is wrong")
    return Measured(
        clock.seconds["client"] + clock.seconds["server"],
        clock.seconds["server"],
        clock.seconds["client"] / case.clients,
        sum(uploads[case.silent :]) / (case.clients - case.silent),
    )


def measure_flower(case: Case) -> Measured:
    """One round of Flower's workflow and client mod over a grid that calls the mod directly."""
    flower = _Flower(case)
    start = time.process_time()
    flower.play()
    server = time.process_time() - start - flower.outside
    uploads = sum(flower.uploads.values()) / (case.clients - case.silent)
    clients = flower.clients
    return Measured(server + clients, server, clients / case.clients, uploads)


class _Flower:
    """What Flower's workflow needs around it, and no more."""

    def __init__(self, case: Case) -> None:
        importlib.import_module("flwr.common.logger")
        logging.getLogger("flwr").setLevel(logging.ERROR)
        identity = importlib.import_module("flwr.supercore.task_identity").TaskIdentity
        identity.task_id = identity.run_id = identity.node_id = 1
        self.case = case
        self.app = importlib.import_module("flwr.app")
        self.common = importlib.import_module("flwr.common")
        self.compat = importlib.import_module("flwr.compat.common.recorddict_compat")
        self.constants = importlib.import_module(
            "flwr.common.secure_aggregation.secaggplus_constants"
        )
        self.mod = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
        self.serde = importlib.import_module("flwr.common.serde")
        self.workflow = importlib.import_module(
            "flwr.server.workflow.secure_aggregation.secaggplus_workflow"
        )
        self.clients = 0.0
        """Seconds in the clients' code."""
        self.outside = 0.0
        """Seconds in anything but the server's code."""
        self.uploads: dict[int, int] = {}
        self.contexts = {
            node: self.app.Context(0, node, {}, self.app.RecordDict(), {})
            for node in range(1, case.clients + 1)
        }
        vector = np.random.default_rng(1).standard_normal(case.dimension).astype(np.float32)
        self.update = self.common.ndarrays_to_parameters([vector])

    def play(self) -> None:
        """All four stages; a stage that gives up is an error here."""
        constant = importlib.import_module("flwr.server.workflow.constant")
        empty = self.common.ndarrays_to_parameters([np.zeros(1, np.float32)])
        state = self.app.RecordDict(
            {
                constant.MAIN_CONFIGS_RECORD: self.app.ConfigRecord(
                    {constant.Key.CURRENT_ROUND: 1}
                ),
                constant.MAIN_PARAMS_RECORD: self.compat.parameters_to_arrayrecord(empty, True),
            }
        )
        fit = self.common.FitIns(empty, {})
        strategy = SimpleNamespace(
            configure_fit=lambda *_: [(SimpleNamespace(node_id=i), fit) for i in self.contexts],
            aggregate_fit=lambda _, results, __: (results[0][1].parameters, {}),
        )
        context = SimpleNamespace(
            state=state,
            strategy=strategy,
            client_manager=SimpleNamespace(num_available=lambda: len(self.contexts)),
            history=SimpleNamespace(add_metrics_distributed_fit=lambda **_: None),
        )
        workflow = self.workflow.SecAggPlusWorkflow(self.case.shares, self.case.threshold)
        progress = self.workflow.WorkflowState()
        for stage in (
            workflow.setup_stage,
            workflow.share_keys_stage,
            workflow.collect_masked_vectors_stage,
            workflow.unmask_stage,
        ):
            if not stage(self, context, progress):
                raise AssertionError(f"Flower gave up in {stage.__name__}")

    def send_and_receive(self, messages: list[Any], timeout: float | None) -> list[Any]:
        """The grid: hand each message to its client at once; the silent answer no third one."""
        start = time.process_time()
        replies = list(self._replies(messages))
        self.outside += time.process_time() - start
        return replies

    def _replies(self, messages: list[Any]) -> Iterator[Any]:
        keys = self.constants
        for message in messages:
            node = message.metadata.dst_node_id
            configs = message.content.config_records[keys.RECORD_KEY_CONFIGS]
            late = configs[keys.Key.STAGE] not in (keys.Stage.SETUP, keys.Stage.SHARE_KEYS)
            if late and node <= self.case.silent:
                continue
            # A message that crossed a network is the receiver's own; the mod changes what it gets.
            own = self.serde.message_from_proto(self.serde.message_to_proto(message))
            start = time.process_time()
            reply = self.mod.secaggplus_mod(own, self.contexts[node], self._train)
            self.clients += time.process_time() - start
            if node > self.case.silent:
                size = self.serde.recorddict_to_proto(reply.content).ByteSize()
                self.uploads[node] = self.uploads.get(node, 0) + size
            yield reply

    def _train(self, message: Any, context: Any) -> Any:
        status = self.common.Status(self.common.Code.OK, "")
        result = self.common.FitRes(status, self.update, 1000, {})
        return self.app.Message(self.compat.fitres_to_recorddict(result, True), reply_to=message)


def _answer(
    client: Client, stage: int, request: bytes, vector: np.ndarray[Any, np.dtype[np.uint32]]
) -> bytes:
    """A client's message after the server closed its `stage`-th stage."""
    if stage == 1:
        return client.mask(request, vector)
    return (client.share, client.sign, client.release)[max(0, stage - 1)](request)


def _keep_nothing(_: Snapshot) -> None:
    """Clients of a benchmark need not survive it."""


class _Clock:
    """CPU seconds by party."""

    def __init__(self) -> None:
        self.seconds = {"client": 0.0, "server": 0.0}

    def __call__(self, party: str, action: Callable[..., Any], *arguments: Any) -> Any:
        start = time.process_time()
        result = action(*arguments)
        self.seconds[party] += time.process_time() - start
        return result


def _round(case: Case) -> tuple[RoundConfig, list[Ed25519PrivateKey]]:
    identities = [Ed25519PrivateKey.generate() for _ in range(case.clients)]
    model = HonestButCurious(
        case.clients,
        case.clients - case.clients // 10,
        case.clients // 20,
        case.shares - 1,
        case.threshold,
    )
    return _config(model, case.dimension, identities), identities


def _config(
    model: HonestButCurious, dimension: int, identities: list[Ed25519PrivateKey]
) -> RoundConfig:
    roster = tuple(key.public_key().public_bytes_raw() for key in identities)
    random = [os.urandom(32) for _ in range(3)]
    return RoundConfig(random[0], 1, random[1], random[2], dimension, 2**64 - 1, roster, model)


def _vectors(case: Case) -> list[np.ndarray[Any, np.dtype[np.uint32]]]:
    """Ten vectors do for all clients."""
    random = np.random.default_rng(1)
    return [random.integers(0, 2**32, case.dimension, dtype=np.uint32) for _ in range(10)]


def _thousand_clients() -> Iterator[Row]:
    """n = 1,000, d = 2^16, a tenth drops out after sharing keys, k and t from the finder.

    The server runs in a process of its own, so that its memory can be told from the clients'.
    """
    model = HonestButCurious.choose(1000, 900, 50)
    case = f"n=1000 d=65536 drop=10% k={model.degree} t={model.threshold}"
    identities = [Ed25519PrivateKey.generate() for _ in range(model.clients)]
    config = _config(model, 2**16, identities)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, config.to_bytes()))
    process.start()
    clients = [Client.start(config, key, _keep_nothing) for key in identities]
    vector = np.arange(2**16, dtype=np.uint32)
    for index, client in enumerate(clients):
        here.send((index, client.message))
    for stage in range(4):
        here.send(None)
        for index, request in here.recv().items():
            if stage == 0 or index >= 100:
                here.send((index, _answer(clients[index], stage, request, vector)))
    here.send(None)
    seconds, grown, correct = here.recv()
    process.join()
    if not correct:
        raise AssertionError("the sum is wrong")
    yield Row("secagg", case, METRICS["server"], seconds)
    yield Row("secagg", case, "server memory above start, MB", grown / 1e6)
    yield Row("secagg", case, "all masked vectors together, MB", 900 * 2**16 * 4 / 1e6)


def _serve(pipe: Connection, config_bytes: bytes) -> None:
    """The server's process: None closes a stage, anything else is a client's message."""
    config = RoundConfig.from_bytes(config_bytes)
    gc.collect()
    before = _peak_memory()
    server, clock, closed = Server(config), _Clock(), 0
    while closed < 5:
        received = pipe.recv()
        if received is not None:
            index, message = received
            clock("server", server.receive, index, message)
            continue
        closed += 1
        if closed < 5:
            clock("server", server.close)
            pipe.send(server.outbox)
    aggregate = clock("server", server.open)
    grown = _peak_memory() - before
    expected = np.arange(2**16, dtype=np.uint32) * np.uint32(900)
    pipe.send((clock.seconds["server"], grown, np.array_equal(aggregate.total, expected)))


def _peak_memory() -> int:
    """Most bytes this process has had in memory, from Linux's accounts; getrusage would count the
    parent's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def _peer(
    case: Case, stored: dict[str, dict[str, Any]], options: Options
) -> tuple[Measured | None, str | None]:
    """Flower's numbers, measured now where that is quick or wanted."""
    known = stored.get(case.name)
    installed = importlib.util.find_spec("flwr") is not None
    quick = known is not None and known["measured"]["total"] < QUICK_SECONDS
    if installed and (options.full or quick):
        return measure_flower(case), versioned("flwr")
    if known is None:
        return None, None
    return Measured(**known["measured"]), f"flwr {known['version']} (stored)"


def _stored() -> dict[str, dict[str, Any]]:
    return json.loads(STORED.read_text()) if STORED.exists() else {}


def _store(names: list[str]) -> None:
    for case in CASES:
        if case.name in names:
            measured = measure_flower(case)
            stored = _stored()
            stored[case.name] = {
                "version": versioned("flwr").split()[1],
                "machine": header(),
                "measured": {key: round(value, 4) for key, value in asdict(measured).items()},
            }
            STORED.write_text(json.dumps(dict(sorted(stored.items())), indent=1) + "\n")
            print(case.name, measured)


if __name__ == "__main__":
    _store(sys.argv[1:])
