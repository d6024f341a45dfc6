"""What the head of the node's pages leads to."""

from __future__ import annotations

from api.pages.frame import Link
from api.pages.sessions import Visitor
from storage.node_tables import Scope

BRAND = "Alcove"

_EVERYBODY = (Link("Chat", "/"),)
_OWNER = (
    Link("Documents", "/documents"),
    Link("Assistants", "/assistants"),
    Link("Federation", "/federation"),
)


def links(visitor: Visitor) -> tuple[Link, ...]:
    """What a key's scope has a use for."""
    return _EVERYBODY + (_OWNER if visitor.role == Scope.OWNER else ())
