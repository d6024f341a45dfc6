"""Records that a coordinator or a participant has signed: canonical JSON (RFC 8785) and Ed25519."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.canonical import CanonicalError, JsonValue, canonical_bytes, parse_canonical
from privacy.records import from_json, to_json
from privacy.signing import (
    BadSignatureError,
    Domain,
    digest,
    public_key_hex,
    sign,
    verify_signature,
)

Record = TypeVar("Record")


class SignedError(ValueError):
    """Bytes are not the record that was expected, signed by the key that was expected."""


@dataclass(frozen=True, slots=True)
class Signed(Generic[Record]):
    """A record with its signer's public key and signature, in hexadecimal."""

    record: Record
    signer: str
    signature: str

    @staticmethod
    def issue(record: Record, domain: Domain, key: Ed25519PrivateKey) -> Signed[Record]:
        """`record` under the signature of `key`."""
        signature = sign(key, domain, canonical_bytes(to_json(record)))
        return Signed(record, public_key_hex(key), signature)

    def to_bytes(self) -> bytes:
        """Canonical JSON, without a line end."""
        fields: dict[str, JsonValue] = {
            "record": to_json(self.record),
            "signer": self.signer,
            "signature": self.signature,
        }
        return canonical_bytes(fields)

    @staticmethod
    def from_bytes(
        data: bytes, record_type: type[Record], domain: Domain, signer: str
    ) -> Signed[Record]:
        """What `to_bytes` wrote, verified to be signed by `signer` (public key, hexadecimal).

        Raises:
            SignedError: for anything else.
        """
        signed = Signed.read(data, record_type, domain)
        if signed.signer != signer:
            raise SignedError(f"not a valid signed {domain.name.lower()}: by another key")
        return signed

    @staticmethod
    def read(data: bytes, record_type: type[Record], domain: Domain) -> Signed[Record]:
        """The same, by whichever signer it names: for a record that says who has to sign it.

        Raises:
            SignedError: for anything but a record with a valid signature.
        """
        try:
            value = parse_canonical(data)
            if not isinstance(value, dict) or value.keys() != {"record", "signer", "signature"}:
                raise ValueError("it is not a signed record")
            signer, signature = value["signer"], value["signature"]
            if not isinstance(signer, str) or not isinstance(signature, str):
                raise ValueError("signer and signature are texts")
            verify_signature(signer, domain, canonical_bytes(value["record"]), signature)
            record = from_json(record_type, value["record"])
        except (CanonicalError, BadSignatureError, ValueError) as error:
            raise SignedError(f"not a valid signed {domain.name.lower()}: {error}") from error
        return Signed(record, signer, signature)


def record_hash(record: object, domain: Domain) -> str:
    """SHA-256 of a record's canonical JSON, 64 hexadecimal digits."""
    return digest(domain, canonical_bytes(to_json(record)))
