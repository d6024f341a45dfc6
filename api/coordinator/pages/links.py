"""What the head of the coordinator's pages leads to."""

from __future__ import annotations

from api.pages.frame import Link
from api.pages.sessions import Visitor
from storage.coordinator_tables import Role

BRAND = "Alcove coordinator"

_EVERYBODY = (
    Link("Budgets", "/"),
    Link("Rounds", "/rounds"),
    Link("Ledger", "/ledger"),
    Link("Versions", "/versions"),
)
_ADMIN = (
    Link("Participants", "/participants"),
    Link("New federation", "/plan"),
)


def links(visitor: Visitor) -> tuple[Link, ...]:
    """What a role has a use for."""
    return _EVERYBODY + (_ADMIN if visitor.role == Role.ADMIN else ())
