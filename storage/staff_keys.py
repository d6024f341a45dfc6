"""Keys of the people at a coordinator: shown once, stored as a hash, each with one role."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import keys
from storage.coordinator_tables import Role, StaffKey
from storage.declarative import now


@dataclass(frozen=True, slots=True)
class NewStaffKey:
    """A fresh key; `token` is what the client sends and is not kept anywhere."""

    key: StaffKey
    token: str

    def __repr__(self) -> str:
        return f"NewStaffKey(key={self.key.id})"


def create(session: Session, label: str, role: Role) -> NewStaffKey:
    """Make a key."""
    secret = secrets.token_urlsafe(32)
    key = StaffKey(
        id=secrets.token_hex(6), secret_hash=keys.hash_secret(secret), label=label, role=role
    )
    session.add(key)
    session.flush()
    return NewStaffKey(key, f"{keys.PREFIX}_{key.id}_{secret}")


def verify(session: Session, token: str) -> StaffKey | None:
    """Whose token this is; None if it is no token, unknown or revoked."""
    key_id, secret = keys.split(token)
    key = session.get(StaffKey, key_id)
    return key if keys.is_secret(secret, key) else None


def revoke(session: Session, key_id: str) -> bool:
    """End a key at once; False if there is none or it was revoked before."""
    key = session.get(StaffKey, key_id)
    if key is None or key.revoked_at is not None:
        return False
    key.revoked_at = now()
    return True


def list_all(session: Session) -> Sequence[StaffKey]:
    """Every key, oldest first, revoked ones too."""
    return session.scalars(select(StaffKey).order_by(StaffKey.created_at, StaffKey.id)).all()
