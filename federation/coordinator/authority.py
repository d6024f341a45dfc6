"""The coordinator as its services see it: a key, a database and a folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.signing import public_key_hex
from storage.coordinator_database import CoordinatorDatabase
from storage.coordinator_home import CoordinatorHome


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs, where it is stored. Every worker has one of its own."""

    key: Ed25519PrivateKey = field(repr=False)
    database: CoordinatorDatabase
    home: CoordinatorHome

    @property
    def identity(self) -> str:
        """The public key that participants know the coordinator by, hexadecimal."""
        return public_key_hex(self.key)
