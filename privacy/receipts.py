"""Receipts: what a coordinator stated about a round, countersigned and kept by a participant.

Before masks are opened the coordinator signs one statement for the round, and every participant
countersigns it and keeps the pair. A receipt therefore proves something against the coordinator
without anybody having to trust the participant: a participant cannot invent a round, and a
coordinator cannot later leave one out of a ledger that is checked against the receipt. It does not
show whether the masks were opened afterwards: that only the participants can say.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.canonical import CanonicalError, canonical_bytes, parse_canonical
from privacy.records import from_json, to_json
from privacy.signing import (
    BadSignatureError,
    Domain,
    check_hash,
    digest,
    public_key_hex,
    sign,
    verify_signature,
)


class ReceiptError(ValueError):
    """Bytes are not a receipt, or its signatures do not hold."""


@dataclass(frozen=True, slots=True)
class RoundStatement:
    """What the coordinator states about a round once its survivors are known.

    Attributes:
        population: name of the ledger that the round belongs to.
        federation, round_id: which round.
        plan_hash: of the signed plan, hexadecimal.
        survivors_hash: `survivors_hash` of those whose inputs are in the sum.
        head: hash of the ledger's last record at that moment.
    """

    population: str
    federation: str
    round_id: str
    plan_hash: str
    survivors_hash: str
    head: str

    def __post_init__(self) -> None:
        for value in (self.plan_hash, self.survivors_hash, self.head):
            check_hash(value)


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A statement with the coordinator's public key and signature, in hexadecimal."""

    statement: RoundStatement
    coordinator: str
    signature: str

    @staticmethod
    def issue(statement: RoundStatement, key: Ed25519PrivateKey) -> "SignedStatement":
        """Signed by the coordinator, once per round: two different ones convict it."""
        signature = sign(key, Domain.ROUND_STATEMENT, canonical_bytes(to_json(statement)))
        return SignedStatement(statement, public_key_hex(key), signature)

    def check(self) -> None:
        """Verifies the coordinator's signature.

        Raises:
            BadSignatureError: if it does not hold.
        """
        message = canonical_bytes(to_json(self.statement))
        verify_signature(self.coordinator, Domain.ROUND_STATEMENT, message, self.signature)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A signed statement with a participant's public key and countersignature, in hexadecimal."""

    signed: SignedStatement
    participant: str
    signature: str

    @staticmethod
    def countersign(signed: SignedStatement, key: Ed25519PrivateKey) -> "Receipt":
        """The participant's receipt for a statement that it has compared with what it did.

        Raises:
            BadSignatureError: if the coordinator's signature does not hold.
        """
        signed.check()
        signature = sign(key, Domain.RECEIPT, canonical_bytes(to_json(signed)))
        return Receipt(signed, public_key_hex(key), signature)

    def to_bytes(self) -> bytes:
        """Canonical JSON, without a line end."""
        return canonical_bytes(to_json(self))

    @staticmethod
    def from_bytes(data: bytes) -> "Receipt":
        """The receipt in `data`, with both signatures verified.

        Whether the coordinator's key is the right one is for the caller to decide.

        Raises:
            ReceiptError: for anything else.
        """
        try:
            receipt = from_json(Receipt, parse_canonical(data))
            receipt.signed.check()
            message = canonical_bytes(to_json(receipt.signed))
            verify_signature(receipt.participant, Domain.RECEIPT, message, receipt.signature)
        except (CanonicalError, BadSignatureError, ValueError) as error:
            raise ReceiptError(f"not a valid receipt: {error}") from error
        return receipt


def survivors_hash(participants: Iterable[str]) -> str:
    """Hash of a set of participants' public keys; the order and repetitions do not matter."""
    ordered = tuple(sorted(set(participants)))
    return digest(Domain.SURVIVORS, canonical_bytes(to_json(ordered)))


def receipts_hash(receipts: Iterable[Receipt]) -> str:
    """Hash of a set of receipts, for the ledger's record of the round."""
    ordered = tuple(sorted(set(receipts), key=Receipt.to_bytes))
    return digest(Domain.RECEIPT_SET, canonical_bytes(to_json(ordered)))
