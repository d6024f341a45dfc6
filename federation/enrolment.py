"""How a node becomes a participant: a single-use token, an identity key, the admin's approval.

The token carries the coordinator's public key, so that a node knows whom it must hear from before
it has heard anything.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

from federation.roster import LONGEST_NAME
from privacy.signing import check_hash

_TOKEN = re.compile(r"alcove-enrol-([0-9a-f]{64})-([A-Za-z0-9_-]{32})")


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """What the admin hands to a node's owner: the coordinator's key and a secret."""

    coordinator: str
    secret: str = field(repr=False)

    @staticmethod
    def fresh(coordinator: str) -> EnrolmentToken:
        """A token that nobody has seen."""
        return EnrolmentToken(coordinator, secrets.token_urlsafe(24))

    @staticmethod
    def parse(text: str) -> EnrolmentToken:
        """Raises ValueError unless `text` is a token."""
        match = _TOKEN.fullmatch(text.strip())
        if match is None:
            raise ValueError("this is no enrolment token: it begins with alcove-enrol-")
        return EnrolmentToken(match[1], match[2])

    def reveal(self) -> str:
        """The text to hand over."""
        return f"alcove-enrol-{self.coordinator}-{self.secret}"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a node signs with its new identity key (`Domain.ENROLMENT`) to be enrolled.

    Attributes:
        coordinator: public key from the token.
        token_hash: SHA-256 of the token's secret; the request carries the secret beside this.
        identity: the node's public key, hexadecimal.
        name: what the roster calls the node.
    """

    coordinator: str
    token_hash: str
    identity: str
    name: str

    def __post_init__(self) -> None:
        for value in (self.coordinator, self.token_hash, self.identity):
            check_hash(value)
        if not 0 < len(self.name) <= LONGEST_NAME or not self.name.isprintable():
            raise ValueError(f"a name has 1 to {LONGEST_NAME} printable characters")


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new identity for an old one: signed by both keys (`Domain.ROTATION`)."""

    coordinator: str
    old: str
    new: str

    def __post_init__(self) -> None:
        for value in (self.coordinator, self.old, self.new):
            check_hash(value)
        if self.old == self.new:
            raise ValueError("the new identity is the old one")


@dataclass(frozen=True, slots=True)
class SessionProof:
    """What a participant signs (`Domain.SESSION`) to get a bearer token: a challenge, once."""

    coordinator: str
    identity: str
    challenge: str
