"""Clients and a server in one process, with everything that an attack may want to hold."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from federation.secagg.client.machine import Client, Snapshot
from federation.secagg.config import RoundConfig
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.server.machine import Server
from federation.secagg.server.unmask import Aggregate
from federation.secagg.threat_model import Active, HonestButCurious, ThreatModel

NO_BOUND = 2**64 - 1


@cache
def identity(index: int) -> Ed25519PrivateKey:
    """The enrolled key of the client at this place of every roster here."""
    return Ed25519PrivateKey.from_private_bytes(index.to_bytes(32))


def curious(clients: int, min_survivors: int | None = None, colluders: int = 0) -> ThreatModel:
    return HonestButCurious.choose(clients, min_survivors or max(2, clients // 2), colluders)


def active(clients: int, min_survivors: int | None = None, colluders: int = 0) -> ThreatModel:
    return Active.choose(clients, min_survivors or clients, colluders)


def config(model: ThreatModel, dimension: int = 5, **changes: object) -> RoundConfig:
    """A round whose public values are told apart by eye."""
    roster = tuple(identity(i).public_key().public_bytes_raw() for i in range(model.clients))
    plain = RoundConfig(
        b"s" * 32, 7, b"p" * 32, b"m" * 32, dimension, NO_BOUND, roster, threat_model=model
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@dataclass
class Store:
    """What a client's caller keeps: every state it was given, and the newest stage."""

    snapshots: list[Snapshot] = field(default_factory=list)

    def __call__(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    @property
    def newest(self) -> Snapshot:
        return self.snapshots[-1]


class Party:
    """A client with its store and its vector."""

    def __init__(
        self, config: RoundConfig, index: int, confirmed: Collection[int], seed: int = 0
    ) -> None:
        self.config, self.index, self.confirmed = config, index, frozenset(confirmed)
        self.store = Store()
        self.client = Client.start(config, identity(index), self.store, self.confirmed)
        random = np.random.default_rng([seed, index])
        self.vector = random.integers(0, 2**32, config.dimension, dtype=np.uint32)

    def mask(self, delivery: bytes) -> bytes:
        return self.client.mask(delivery, self.vector)

    def answer(self, stage: int, request: bytes) -> bytes:
        """The client's message of round 1, 2, 3 or 4."""
        steps: Sequence[Callable[[bytes], bytes]] = (
            self.client.share,
            self.mask,
            self.client.sign,
            self.client.release,
        )
        return steps[stage - 1](request)

    def reload(self) -> None:
        """The process died; the store is what is left."""
        self.client = Client.restore(
            self.store.newest.data,
            self.config,
            identity(self.index),
            self.store,
            self.confirmed,
            newest=self.store.newest.stage,
        )


class Round:
    """All parties of one round. `play` runs it; `at` stops it where an attack begins."""

    def __init__(self, config: RoundConfig, confirmed: Collection[int] | None = None) -> None:
        everybody = range(len(config.roster))
        self.config = config
        self.parties = [
            Party(config, i, everybody if confirmed is None else confirmed) for i in everybody
        ]
        self.server = Server(config)
        self.between: Callable[[], None] = lambda: None
        """Called between any two messages."""

    def step(self, stage: int, silent: Collection[int] = ()) -> None:
        """One round of the protocol: everybody answers but the silent, then the stage closes."""
        if stage == 0:
            for party in self.parties:
                if party.index not in silent:
                    self.server.receive(party.index, party.client.message)
                    self.between()
        else:
            for index in self.server.outbox:
                if index not in silent:
                    reply = self.parties[index].answer(stage, self.server.outbox[index])
                    self.between()
                    self.server.receive(index, reply)
                    self.between()
        if stage < 4:
            self.server.close()
            self.between()

    def play(self, silent: Sequence[Collection[int]] = ((),) * 5) -> Aggregate:
        """The whole round; `silent[r]` does not answer in round r, nor later."""
        gone: set[int] = set()
        for stage in range(5):
            gone |= set(silent[stage])
            self.step(stage, gone)
        return self.server.open()

    def until(self, stage: int, silent: Collection[int] = ()) -> dict[int, bytes]:
        """Play the rounds before `stage`; what the server would send each client in it."""
        for earlier in range(stage):
            self.step(earlier, silent)
        return dict(self.server.outbox)

    def sum_of(self, indices: Collection[int]) -> NDArray[np.uint32]:
        """What an aggregate with these inputs must be."""
        total = np.zeros(self.config.dimension, dtype=np.uint64)
        for index in indices:
            total += self.parties[index].vector
        return (total % 2**32).astype(np.uint32)


def because(reason: Reason) -> Callable[[Refusal], bool]:
    """For `pytest.raises(Refusal, check=because(Reason.X))`: that refusal and no other."""
    return lambda refusal: refusal.reason is reason
