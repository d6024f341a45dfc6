"""A round of secure aggregation between the machines of a server and its clients, in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from federation.invitation import Announcement, Invitation, round_config
from federation.plan import FederationPlan
from federation.secagg import Client, Server, Snapshot
from privacy.signing import public_key_hex


def secure_sum(
    plan: FederationPlan, number: int, joined: int, vectors: Mapping[int, NDArray[np.uint32]]
) -> NDArray[np.uint32]:
    """The sum of `vectors` modulo 2^32, which the server alone sees, uint32, shape (d,).

    Args:
        joined: nodes that exchange keys and shares; those without a vector then fall silent.
        vectors: by node, below `joined`.

    Raises:
        Refusal: too few survive, or the plan's threat model cannot be promised to so few.
    """
    identities = sorted((Ed25519PrivateKey.generate() for _ in range(joined)), key=public_key_hex)
    announcement = Announcement(plan.federation, plan.hash, number, plan.initial_hash, plan.hash)
    members = tuple(public_key_hex(identity) for identity in identities)
    config = round_config(plan, Invitation(announcement, members))
    everyone = frozenset(range(joined))
    clients = [Client.start(config, one, _keep_nothing, everyone) for one in identities]
    server = Server(config)
    for index, client in enumerate(clients):
        server.receive(index, client.message)
    server.close()
    for index, directory in server.outbox.items():
        server.receive(index, clients[index].share(directory))
    server.close()
    for index, delivery in server.outbox.items():
        if index in vectors:
            server.receive(index, clients[index].mask(delivery, vectors[index]))
    server.close()
    for index, survivors in server.outbox.items():
        server.receive(index, clients[index].sign(survivors))
    server.close()
    for index, signatures in server.outbox.items():
        server.receive(index, clients[index].release(signatures))
    return server.open(os.cpu_count() or 1).total


def _keep_nothing(_: Snapshot) -> None:
    """A simulated client does not survive its process."""
