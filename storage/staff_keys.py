"""Keys of the people at a coordinator: shown once, stored as a hash, each with one role."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import keys
from storage.coordinator_tables import Role, StaffKey
from storage.keys import NewKey


def create(session: Session, label: str, role: Role) -> NewKey[StaffKey]:
    """Make a key."""
    return keys.give_secret(session, StaffKey(label=label, role=role))


def verify(session: Session, token: str) -> StaffKey | None:
    """Whose token this is; None if it is no token, unknown or revoked."""
    key_id, secret = keys.split(token)
    key = session.get(StaffKey, key_id)
    return key if keys.is_secret(secret, key) else None


def find(session: Session, key_id: str) -> StaffKey | None:
    """The key of this id, for who has proved before that it is theirs; None if it is unknown or
    revoked."""
    key = session.get(StaffKey, key_id)
    return key if key is not None and key.revoked_at is None else None


def revoke(session: Session, key_id: str) -> bool:
    """End a key at once; False if there is none or it was revoked before."""
    return keys.end(session.get(StaffKey, key_id))


def list_all(session: Session) -> Sequence[StaffKey]:
    """Every key, oldest first, revoked ones too."""
    return session.scalars(select(StaffKey).order_by(StaffKey.created_at, StaffKey.id)).all()
