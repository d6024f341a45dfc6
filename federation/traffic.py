"""Bytes that one node sends and receives in a round, from the encodings themselves.

Bodies and signatures only: HTTP headers, TLS and long polls come on top.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.invitation import Announcement, Invitation
from federation.plan import FederationPlan
from federation.secagg.masks import WORD_BYTES
from federation.secagg.messages import (
    SEALED_BYTES,
    Advertisement,
    Delivery,
    Directory,
    KeyEntry,
    MaskedInput,
    Message,
    ReleasedShares,
    SealedShares,
    ShareKind,
    SurvivorList,
    SurvivorSignature,
    SurvivorSignatures,
    encode,
)
from federation.secagg.primitives import HASH_BYTES, KEY_BYTES, SIGNATURE_BYTES
from federation.secagg.shamir import SHARE_BYTES
from federation.signed import Signed
from federation.versions import Version
from privacy.canonical import canonical_bytes
from privacy.receipts import Receipt, RoundStatement, SignedStatement
from privacy.records import to_json
from privacy.signing import Domain

PARAMETER_BYTES = 4
_ZERO_HASH = "0" * 64
_ROUND_ID = "0" * 32
_HEX = 2


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one node in one round of a full cohort without drop-outs.

    Attributes:
        up: what it sends.
        down: what it receives, the parameters included.
    """

    up: int
    down: int


def traffic(plan: FederationPlan) -> Traffic:
    """The bytes of a round of `plan`; no other round of it takes more."""
    clients = plan.privacy.cohort
    terms = plan.aggregation(clients)
    everybody, neighbours = range(clients), range(terms.degree)
    keys = KeyEntry(bytes(KEY_BYTES), bytes(KEY_BYTES), bytes(SIGNATURE_BYTES))
    sealed = dict.fromkeys(neighbours, bytes(SEALED_BYTES))
    signature = bytes(SIGNATURE_BYTES)
    # Unmasking shares are of the neighbours and of the node itself.
    shares = dict.fromkeys(range(terms.degree + 1), (ShareKind.SELF_MASK, bytes(SHARE_BYTES)))
    sent: tuple[Message, ...] = (
        Advertisement(0, keys),
        SealedShares(0, bytes(KEY_BYTES), sealed),
        MaskedInput(0, b""),
        SurvivorSignature(0, signature),
        ReleasedShares(0, shares),
    )
    received: tuple[Message, ...] = (
        Directory(dict.fromkeys(everybody, keys)),
        Delivery(sealed),
        SurvivorList(tuple(everybody)),
        SurvivorSignatures(dict.fromkeys(range(terms.threshold), signature)),
    )
    vector = WORD_BYTES * plan.adapter.dimension
    signed = _SignedSizes.of(plan, clients)
    # Each stage's message, the empty or receipt-bearing enlisting one included, is signed.
    headers = (len(sent) + 1) * _HEX * SIGNATURE_BYTES
    up = _encoded(sent) + vector + headers + 2 * signed.receipt
    parameters = PARAMETER_BYTES * plan.adapter.dimension
    down = _encoded(received) + parameters + signed.announcements + signed.statement
    return Traffic(up, down + signed.version)


def _encoded(messages: tuple[Message, ...]) -> int:
    return sum(len(encode(message, bytes(HASH_BYTES))) for message in messages)


@dataclass(frozen=True, slots=True)
class _SignedSizes:
    """Bytes of the signed JSON of a round."""

    announcements: int
    statement: int
    receipt: int
    version: int

    @staticmethod
    def of(plan: FederationPlan, clients: int) -> _SignedSizes:
        key = Ed25519PrivateKey.from_private_bytes(bytes(32))
        name = plan.federation
        announcement = Announcement(name, plan.hash, 2**32 - 1, _ZERO_HASH, _ZERO_HASH)
        members = sorted(hashlib.sha256(str(i).encode()).hexdigest() for i in range(clients))
        invitation = Invitation(announcement, tuple(members))
        statement = SignedStatement.issue(
            RoundStatement(plan.population, name, _ROUND_ID, plan.hash, _ZERO_HASH, _ZERO_HASH),
            key,
        )
        version = Version(
            federation=name,
            plan_hash=plan.hash,
            number=plan.privacy.rounds,
            spec_hash=plan.adapter.hash,
            base_model=plan.adapter.base_model,
            parameters_hash=_ZERO_HASH,
            round_id=_ROUND_ID,
            previous=_ZERO_HASH,
        )
        return _SignedSizes(
            announcements=len(Signed.issue(announcement, Domain.INVITATION, key).to_bytes())
            + len(Signed.issue(invitation, Domain.INVITATION, key).to_bytes()),
            statement=len(canonical_bytes(to_json(statement))),
            receipt=len(Receipt.countersign(statement, key).to_bytes()),
            version=len(Signed.issue(version, Domain.VERSION, key).to_bytes()),
        )
