"""The node's identity keys, and where its federation files lie.

Each membership has a key of its own, so that coordinators cannot tell that two of their
participants are one node. The odometer spans them all.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from privacy.signing import check_hash, public_key_hex
from storage.files import sync, write_private

SECRET_BYTES = 32


class IdentityError(RuntimeError):
    """A key file is missing or is not that key."""


@dataclass(frozen=True, slots=True)
class FederationHome:
    """Files below the node's folder that belong to its part in federations; mode 0600."""

    root: Path

    def create(self) -> None:
        """Make the folders; the one of the identities comes with the first of them."""
        for folder in (self.root, self.rounds, self.files):
            folder.mkdir(mode=0o700, exist_ok=True)
        sync(self.root.parent)

    @property
    def odometer(self) -> Path:
        return self.root / "odometer"

    @property
    def identities(self) -> Path:
        return self.root / "identities"

    @property
    def rounds(self) -> Path:
        """A state file and a stage file for each round that is under way."""
        return self.root / "rounds"

    @property
    def files(self) -> Path:
        """Public files of accepted plans, each under its SHA-256."""
        return self.root / "files"

    def secret(self) -> bytes:
        """The node's own secret of 32 bytes, by which it orders and holds back examples."""
        path = self.root / "secret"
        if not path.exists():
            write_private(path, secrets.token_bytes(SECRET_BYTES))
        return path.read_bytes()


def create_identity(home: FederationHome) -> Ed25519PrivateKey:
    """A new key, stored before it is used. The odometer must have been opened before."""
    key = Ed25519PrivateKey.generate()
    home.identities.mkdir(mode=0o700, exist_ok=True)
    sync(home.root)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(_path(home, public_key_hex(key)), pem)
    return key


def load_identity(home: FederationHome, public_key: str) -> Ed25519PrivateKey:
    """The key with this public half (hexadecimal).

    Raises:
        IdentityError: its file is missing, damaged or another key's.
    """
    path = _path(home, public_key)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise IdentityError(f"the identity key {path} cannot be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey) or public_key_hex(key) != public_key:
        raise IdentityError(f"{path} holds another key")
    return key


def remove_identity(home: FederationHome, public_key: str) -> None:
    """Forget a key; the folder stays, and with it the rule that there must be an odometer."""
    path = _path(home, public_key)
    path.unlink(missing_ok=True)
    if home.identities.exists():
        sync(home.identities)


def _path(home: FederationHome, public_key: str) -> Path:
    check_hash(public_key)
    return home.identities / f"{public_key}.pem"
