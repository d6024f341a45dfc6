"""How far a client has come: the number that only grows."""

from enum import IntEnum


class Stage(IntEnum):
    """The last message that a client has made; see `machine` for how a caller keeps it."""

    ADVERTISED = 1
    SHARED = 2
    MASKED = 3
    SIGNED = 4
    RELEASED = 5
    LEFT = 6
