"""What a participant signs: every message, over federation, round, stage and payload."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.invitation import Stage
from privacy.canonical import canonical_bytes
from privacy.receipts import Receipt
from privacy.records import to_json
from privacy.signing import Domain, sign, verify_signature


@dataclass(frozen=True, slots=True)
class MessageHeader:
    """What the signature of a protocol message covers.

    Attributes:
        federation: its name.
        round_id: `Announcement.round_id`.
        stage: in which the message is sent.
        payload_hash: SHA-256 of its body, 64 hexadecimal digits.
    """

    federation: str
    round_id: str
    stage: Stage
    payload_hash: str

    @staticmethod
    def of(federation: str, round_id: str, stage: Stage, payload: bytes) -> MessageHeader:
        """The header of a payload."""
        return MessageHeader(federation, round_id, stage, hashlib.sha256(payload).hexdigest())

    def sign(self, key: Ed25519PrivateKey) -> str:
        """The participant's signature, hexadecimal."""
        return sign(key, Domain.MESSAGE, canonical_bytes(to_json(self)))

    def verify(self, participant: str, signature: str) -> None:
        """Checks a signature of `participant` (public key, hexadecimal).

        Raises:
            BadSignatureError: it does not hold.
        """
        verify_signature(participant, Domain.MESSAGE, canonical_bytes(to_json(self)), signature)


def newest_receipts(receipts: Iterable[Receipt]) -> bytes:
    """What a node encloses when it enlists: the newest receipt of each plan, newlines between them.

    One of any plan may tell that the coordinator was restored from a backup. `receipts` are all
    that the node holds, those of a plan with the newest last.
    """
    newest = {receipt.signed.statement.plan_hash: receipt for receipt in receipts}
    return b"\n".join(receipt.to_bytes() for receipt in newest.values())


def every_receipt(receipts: Iterable[Receipt]) -> bytes:
    """What it encloses instead for a coordinator that has lost rounds: all, a line each."""
    return b"".join(receipt.to_bytes() + b"\n" for receipt in receipts)
