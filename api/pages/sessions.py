"""Who is signed in. In memory: a server that starts again asks everybody to sign in again."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

LIFETIME_SECONDS = 12 * 3600
MOST_OF_A_KEY = 50


@dataclass(frozen=True, slots=True)
class Visitor:
    """The key that somebody signed in with.

    Attributes:
        role: of the key, to choose what is shown; what may be done is the API's to say.
    """

    key_id: str
    role: str


class Sessions:
    """Open sessions by the unguessable id that a browser's cookie holds."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Visitor, float]] = {}

    def open(self, visitor: Visitor) -> str:
        """The id of a new session; the oldest gives way where its key has MOST_OF_A_KEY."""
        own = [name for name, (other, _) in self._open.items() if other.key_id == visitor.key_id]
        if len(own) >= MOST_OF_A_KEY:
            del self._open[own[0]]
        session_id = secrets.token_urlsafe(32)
        self._open[session_id] = (visitor, time.monotonic() + LIFETIME_SECONDS)
        return session_id

    def find(self, session_id: object) -> Visitor | None:
        """Whose session this is; None if it is over or never was."""
        if not isinstance(session_id, str) or session_id not in self._open:
            return None
        visitor, ends_at = self._open[session_id]
        if ends_at <= time.monotonic():
            del self._open[session_id]
            return None
        return visitor

    def close(self, session_id: object) -> None:
        if isinstance(session_id, str):
            self._open.pop(session_id, None)
