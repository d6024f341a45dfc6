"""API keys: shown once, stored as a hash, compared in constant time, bound to assistants."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from storage.declarative import now
from storage.node_tables import Assistant, Key, Scope

PREFIX = "alcove"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a key's scope and its assistants (None: every one, also future ones)."""

    key_id: str
    scope: Scope
    assistant_ids: frozenset[int] | None


class StoredKey(Protocol):
    """What is kept of a key, of whichever table."""

    id: Any
    secret_hash: Any
    revoked_at: Any


Row = TypeVar("Row", bound=StoredKey)


@dataclass(frozen=True, slots=True)
class NewKey(Generic[Row]):
    """A fresh key; `token` is what the client sends and is not kept anywhere."""

    key: Row
    token: str

    def __repr__(self) -> str:
        return f"NewKey(key={self.key.id})"


def create(
    session: Session, label: str, scope: Scope, assistants: Sequence[Assistant] | None
) -> NewKey[Key]:
    """Make a key for these assistants (None: every one)."""
    key = Key(
        label=label,
        scope=scope,
        every_assistant=assistants is None,
        assistants=list(assistants or ()),
    )
    return give_secret(session, key)


def verify(session: Session, token: str) -> Principal | None:
    """Whose token this is; None if it is no token, unknown or revoked."""
    key_id, secret = split(token)
    key = session.get(Key, key_id, options=[selectinload(Key.assistants)])
    return _principal(key) if is_secret(secret, key) else None


def find(session: Session, key_id: str) -> Principal | None:
    """Whose key has this id, for who has proved before that it is theirs; None if it is unknown or
    revoked."""
    return _principal(session.get(Key, key_id, options=[selectinload(Key.assistants)]))


def _principal(key: Key | None) -> Principal | None:
    if key is None or key.revoked_at is not None:
        return None
    own = None if key.every_assistant else frozenset(a.id for a in key.assistants)
    return Principal(key.id, key.scope, own)


def revoke(session: Session, key_id: str) -> bool:
    """End a key at once; False if there is none or it was revoked before."""
    return end(session.get(Key, key_id))


def list_all(session: Session) -> Sequence[Key]:
    """Every key, oldest first, revoked ones too."""
    query = select(Key).options(selectinload(Key.assistants)).order_by(Key.created_at, Key.id)
    return session.scalars(query).all()


def give_secret(session: Session, key: Row) -> NewKey[Row]:
    """Store a key of either table under a new id, with a secret of 256 random bits."""
    secret = secrets.token_urlsafe(32)
    key.id, key.secret_hash = secrets.token_hex(6), hash_secret(secret)
    session.add(key)
    session.flush()
    return NewKey(key, f"{PREFIX}_{key.id}_{secret}")


def end(key: StoredKey | None) -> bool:
    """Revoke a key of either table; False if there is none or it was revoked before."""
    if key is None or key.revoked_at is not None:
        return False
    key.revoked_at = now()
    return True


def split(token: str) -> tuple[str, str]:
    """Id and secret of a token; of anything else, what matches no key."""
    prefix, _, rest = token.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if prefix == PREFIX and token.isascii() else ("", "")


def is_secret(secret: str, key: StoredKey | None) -> bool:
    """Whether this is the secret of a key that is in force, compared in constant time."""
    # The comparison is made for unknown keys too, so that time tells nothing about ids.
    expected = key.secret_hash if key is not None else bytes(32)
    matches = hmac.compare_digest(expected, hash_secret(secret))
    return matches and key is not None and key.revoked_at is None


def hash_secret(secret: str) -> bytes:
    """What is stored of a secret: it has too many bits to be guessed, so one SHA-256 does."""
    return hashlib.sha256(secret.encode()).digest()
