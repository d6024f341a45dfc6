"""Who is in a population, signed by the coordinator, and the fingerprints that owners compare.

The coordinator is the authority on who is who unless owners compare fingerprints out of band: only
peers whose fingerprint an owner has confirmed count against an active coordinator.
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.signed import Signed, record_hash
from privacy.signing import Domain, check_hash

LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Member:
    """An approved participant: the name it chose and its identity (Ed25519, hexadecimal)."""

    name: str
    identity: str

    def __post_init__(self) -> None:
        check_hash(self.identity)
        if not 0 < len(self.name) <= LONGEST_NAME or not self.name.isprintable():
            raise ValueError(f"a name has 1 to {LONGEST_NAME} printable characters")


@dataclass(frozen=True, slots=True)
class Roster:
    """All approved participants of a population, by identity; `version` grows with each change."""

    population: str
    version: int
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        identities = [member.identity for member in self.members]
        if identities != sorted(set(identities)):
            raise ValueError("members are ordered by identity, and each is there once")

    @property
    def hash(self) -> str:
        """SHA-256, 64 hexadecimal digits."""
        return record_hash(self, Domain.ROSTER)


SignedRoster = Signed[Roster]


def fingerprint(public_key: str) -> str:
    """The public key in groups of four, to be read aloud and compared in full."""
    check_hash(public_key)
    return " ".join(public_key[start : start + 4] for start in range(0, len(public_key), 4))


def read_fingerprint(text: str) -> str:
    """The public key of a fingerprint, however it was spaced.

    Raises:
        ValueError: it is not one.
    """
    public_key = "".join(text.split()).lower()
    try:
        check_hash(public_key)
    except ValueError:
        raise ValueError("a fingerprint has 64 hexadecimal digits") from None
    return public_key
