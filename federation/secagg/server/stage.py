"""What a server is waiting for."""

from enum import IntEnum


class Stage(IntEnum):
    """The server's state, in the order of the protocol."""

    ADVERTISING = 1
    SHARING = 2
    MASKING = 3
    SIGNING = 4
    UNMASKING = 5
    FINISHED = 6
    FAILED = 7
