"""How far a client has come, and what every state of it can do."""

from enum import IntEnum
from typing import ClassVar, Protocol, Self

from federation.secagg.secret import Secret
from federation.secagg.wire import Reader, Writer


class Stage(IntEnum):
    """The last message that a client has made. It only grows; `machine` says how it is kept."""

    ADVERTISED = 1
    SHARED = 2
    MASKED = 3
    SIGNED = 4
    RELEASED = 5
    LEFT = 6


class State(Protocol):
    """A frozen record of all that a client knows between two messages."""

    stage: ClassVar[Stage]

    def secrets(self) -> tuple[Secret, ...]:
        """Everything to be wiped when the state is left, unless the next state holds it too."""

    def write(self, out: Writer) -> None:
        """Append all fields, secrets in clear."""

    @classmethod
    def read(cls, source: Reader) -> Self:
        """Take what `write` appended."""
