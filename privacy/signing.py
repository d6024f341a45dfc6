"""SHA-256 and Ed25519 (RFC 8032) with a label for each use, so that no signature serves twice.

A signature made for one purpose can never be shown as a signature for another, because the label
comes before the message and ends with a zero byte, which no label contains.
"""

import hashlib
import re
from enum import Enum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class Domain(Enum):
    """What a hash or a signature is for."""

    LEDGER_LINK = b"alcove/v1/ledger-link"
    LEDGER_RECORD = b"alcove/v1/ledger-record"
    ROUND_STATEMENT = b"alcove/v1/round-statement"
    RECEIPT = b"alcove/v1/receipt"
    RECEIPT_SET = b"alcove/v1/receipt-set"
    SURVIVORS = b"alcove/v1/survivors"
    CANARIES = b"alcove/v1/canaries"
    ODOMETER_LINE = b"alcove/v1/odometer-line"
    ENROLMENT = b"alcove/v1/enrolment"
    ROTATION = b"alcove/v1/rotation"
    SESSION = b"alcove/v1/session"
    ROSTER = b"alcove/v1/roster"
    ADAPTER_SPEC = b"alcove/v1/adapter-spec"
    PLAN = b"alcove/v1/plan"
    INVITATION = b"alcove/v1/invitation"
    MESSAGE = b"alcove/v1/message"
    PARAMETERS = b"alcove/v1/parameters"
    VERSION = b"alcove/v1/version"

    def label(self, message: bytes) -> bytes:
        """`message` with this domain's label before it."""
        return self.value + b"\0" + message


class BadSignatureError(ValueError):
    """A signature is not one of this message, for this purpose, by this key."""


def digest(domain: Domain, message: bytes) -> str:
    """SHA-256 of the labelled message, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(domain.label(message)).hexdigest()


def sign(key: Ed25519PrivateKey, domain: Domain, message: bytes) -> str:
    """The Ed25519 signature of the labelled message, 128 lower-case hexadecimal digits."""
    return key.sign(domain.label(message)).hex()


def verify_signature(public_key: str, domain: Domain, message: bytes, signature: str) -> None:
    """Checks a signature made by `sign`; both key and signature are lower-case hexadecimal.

    Raises:
        BadSignatureError: if the key or the signature is malformed, or does not fit.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(from_hex(public_key, 32))
        key.verify(from_hex(signature, 64), domain.label(message))
    except (InvalidSignature, ValueError) as error:
        raise BadSignatureError(f"bad {domain.name.lower()} signature") from error


def public_key_hex(key: Ed25519PrivateKey) -> str:
    """The public half of `key`, 64 lower-case hexadecimal digits."""
    return key.public_key().public_bytes_raw().hex()


def check_hash(text: str) -> None:
    """Refuses anything but 64 lower-case hexadecimal digits.

    Raises:
        ValueError: for any other text.
    """
    from_hex(text, 32)


def from_hex(text: str, length: int) -> bytes:
    """Exactly `length` bytes from lower-case hexadecimal digits, the only form accepted.

    Raises:
        ValueError: for any other text; upper case would give one value two spellings.
    """
    if not re.fullmatch(f"[0-9a-f]{{{2 * length}}}", text):
        raise ValueError(f"expected {2 * length} lower-case hexadecimal digits")
    return bytes.fromhex(text)
