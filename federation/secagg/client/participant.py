"""Who a client is in one round, and what its owner has checked."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.secagg.config import RoundConfig


@dataclass(frozen=True)
class Participant:
    """What every state of a client needs to know.

    Attributes:
        config: the round, as the client itself understood the plan, never as the server sent it.
        identity: the enrolled Ed25519 key.
        confirmed: roster indices whose fingerprints the owner compared out of band; they matter
            against an active server only.

    Raises:
        Refusal: NOT_ON_ROSTER (on first use of `index`).
    """

    config: RoundConfig
    identity: Ed25519PrivateKey = field(repr=False)
    confirmed: frozenset[int] = frozenset()

    @cached_property
    def index(self) -> int:
        """The client's place on the roster."""
        return self.config.index_of(self.identity.public_key().public_bytes_raw())

    def confirmed_among(self, members: Iterable[int]) -> int:
        """How many of `members` the owner vouches for, this client included."""
        return len((self.confirmed | {self.index}).intersection(members))
