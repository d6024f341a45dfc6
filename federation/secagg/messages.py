"""The messages of the protocol: frozen records, each with one binary encoding.

Every message begins with version (8 bits), kind (8 bits) and the hash of the round's configuration
(32 bytes), so that a message of another round is recognised before it is read; a client's message
then names its sender (16 bits). Integers are big-endian, lists rise by roster index, nothing may
follow the last field. A record that was decoded encodes to the same bytes again.

    round (Bonawitz et al., figure 4)   client -> server    server -> client
    0 advertise keys                    Advertisement       Directory
    1 share keys                        SealedShares        Delivery
    2 masked input                      MaskedInput         SurvivorList
    3 consistency                       SurvivorSignature   SurvivorSignatures
    4 unmasking                         ReleasedShares
    any                                 Abort
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from federation.secagg.masks import WORD_BYTES
from federation.secagg.primitives import (
    HASH_BYTES,
    KEY_BYTES,
    NONCE_BYTES,
    SIGNATURE_BYTES,
    TAG_BYTES,
)
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.shamir import SHARE_BYTES, check_share
from federation.secagg.wire import Reader, Writer, malformed

VERSION = 1
SEALED_BYTES = NONCE_BYTES + 2 * SHARE_BYTES + TAG_BYTES
"""A self-mask share and a mask-key share, sealed together."""
INDEX_BYTES = 2


class Kind(IntEnum):
    """What follows the header."""

    ADVERTISEMENT = 1
    DIRECTORY = 2
    SEALED_SHARES = 3
    DELIVERY = 4
    MASKED_INPUT = 5
    SURVIVOR_LIST = 6
    SURVIVOR_SIGNATURE = 7
    SURVIVOR_SIGNATURES = 8
    RELEASED_SHARES = 9
    ABORT = 10


class ShareKind(IntEnum):
    """Which of a peer's two secrets a share belongs to; a holder releases one of them."""

    SELF_MASK = 1
    """Of the seed b of its self mask: the peer survived."""
    MASK_KEY = 2
    """Of its private mask key: the peer dropped out."""


class Message(Protocol):
    """What `encode` and `decode` need of a record."""

    kind: ClassVar[Kind]

    def write(self, out: Writer) -> None:
        """Append the fields behind the round's hash."""

    @classmethod
    def read(cls, source: Reader) -> Self:
        """Take those fields."""


class ClientMessage(Message, Protocol):
    """A message that names the client it is from."""

    @property
    def sender(self) -> int:
        """Roster index."""


M = TypeVar("M", bound=Message)
C = TypeVar("C", bound=ClientMessage)
E = TypeVar("E", bound=IntEnum)


def encode(message: Message, round_hash: bytes) -> bytes:
    """The message's bytes."""
    out = Writer().u8(VERSION).u8(message.kind).raw(round_hash)
    message.write(out)
    return out.bytes()


def decode(expected: type[M], data: bytes, round_hash: bytes) -> M:
    """The record that `data` encodes.

    Raises:
        Refusal: MALFORMED, not one message of this version; OUT_OF_ORDER, of another kind;
            WRONG_ROUND; BAD_SHARE, a released share that is not in the field.
    """
    source = Reader(data)
    if source.u8() != VERSION:
        raise malformed(f"not a message of version {VERSION}")
    kind = _member(Kind, source.u8())
    if kind is not expected.kind:
        raise Refusal(Reason.OUT_OF_ORDER, f"{kind.name} instead of {expected.kind.name}")
    if source.raw(HASH_BYTES) != round_hash:
        raise Refusal(Reason.WRONG_ROUND, "a message of another round")
    message = expected.read(source)
    source.end()
    return message


def decode_from(expected: type[C], sender: int, data: bytes, round_hash: bytes) -> C:
    """The record of a client's message that came from `sender` by an authenticated connection.

    Raises:
        Refusal: as `decode`, or WRONG_SENDER.
    """
    message = decode(expected, data, round_hash)
    if message.sender != sender:
        raise Refusal(Reason.WRONG_SENDER, f"client {sender} sent a message of another's")
    return message


def is_abort(data: bytes) -> bool:
    """Whether a client's message announces that it leaves."""
    return data[:2] == bytes((VERSION, Kind.ABORT))


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One client's signed public keys."""

    channel_key: bytes
    """X25519, for sealing shares (c in Bonawitz et al.)."""
    mask_key: bytes
    """X25519, for pairwise masks (s)."""
    signature: bytes
    """Ed25519 by the identity on the roster, over round, index and both keys."""

    SIZE: ClassVar[int] = 2 * KEY_BYTES + SIGNATURE_BYTES

    def write(self, out: Writer) -> None:
        out.raw(self.channel_key).raw(self.mask_key).raw(self.signature)

    @classmethod
    def read(cls, source: Reader) -> "KeyEntry":
        return cls(source.raw(KEY_BYTES), source.raw(KEY_BYTES), source.raw(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True)
class Advertisement:
    """Round 0: a client's two public keys."""

    kind: ClassVar[Kind] = Kind.ADVERTISEMENT
    sender: int
    keys: KeyEntry

    def write(self, out: Writer) -> None:
        out.u16(self.sender)
        self.keys.write(out)

    @classmethod
    def read(cls, source: Reader) -> "Advertisement":
        return cls(source.u16(), KeyEntry.read(source))


@dataclass(frozen=True, slots=True)
class Directory:
    """Round 0: everything that was advertised, the same bytes to everybody."""

    kind: ClassVar[Kind] = Kind.DIRECTORY
    entries: Mapping[int, KeyEntry]

    def write(self, out: Writer) -> None:
        out.u16(len(self.entries))
        for index in sorted(self.entries):
            out.u16(index)
            self.entries[index].write(out)

    @classmethod
    def read(cls, source: Reader) -> "Directory":
        return cls({i: KeyEntry.read(source) for i in source.rising(INDEX_BYTES + KeyEntry.SIZE)})


@dataclass(frozen=True, slots=True)
class SealedShares:
    """Round 1: for each neighbour a share of both secrets, sealed to it."""

    kind: ClassVar[Kind] = Kind.SEALED_SHARES
    sender: int
    commitment: bytes
    """Derived from b, so that a wrongly reconstructed b is noticed."""
    sealed: Mapping[int, bytes] = field(repr=False)
    """By recipient."""

    def write(self, out: Writer) -> None:
        out.u16(self.sender).raw(self.commitment)
        _write_sealed(out, self.sealed)

    @classmethod
    def read(cls, source: Reader) -> "SealedShares":
        return cls(source.u16(), source.raw(KEY_BYTES), _read_sealed(source))


@dataclass(frozen=True, slots=True)
class Delivery:
    """Round 1: the shares that were sealed to one client."""

    kind: ClassVar[Kind] = Kind.DELIVERY
    sealed: Mapping[int, bytes] = field(repr=False)
    """By sender."""

    def write(self, out: Writer) -> None:
        _write_sealed(out, self.sealed)

    @classmethod
    def read(cls, source: Reader) -> "Delivery":
        return cls(_read_sealed(source))


@dataclass(frozen=True, slots=True)
class MaskedInput:
    """Round 2: a client's vector under its masks."""

    kind: ClassVar[Kind] = Kind.MASKED_INPUT
    sender: int
    words: bytes = field(repr=False)
    """d big-endian 32-bit words."""

    @classmethod
    def of(cls, sender: int, vector: NDArray[np.uint32]) -> "MaskedInput":
        """The message with `vector`, shape (d,)."""
        return cls(sender, vector.astype(">u4").tobytes())

    def vector(self, dimension: int) -> NDArray[np.uint32]:
        """The masked vector, shape (d,); Refusal MALFORMED where d is not `dimension`."""
        if len(self.words) != WORD_BYTES * dimension:
            raise malformed(f"a vector of {dimension} words was expected")
        return np.frombuffer(self.words, dtype=">u4").astype(np.uint32)

    def write(self, out: Writer) -> None:
        out.u16(self.sender).sized(self.words)

    @classmethod
    def read(cls, source: Reader) -> "MaskedInput":
        return cls(source.u16(), source.sized())


@dataclass(frozen=True, slots=True)
class SurvivorList:
    """Round 2: whose masked input was added up (U3); there is no second list that could differ."""

    kind: ClassVar[Kind] = Kind.SURVIVOR_LIST
    survivors: tuple[int, ...]

    def write(self, out: Writer) -> None:
        out.u16(len(self.survivors))
        for index in self.survivors:
            out.u16(index)

    @classmethod
    def read(cls, source: Reader) -> "SurvivorList":
        return cls(tuple(source.rising(INDEX_BYTES)))


@dataclass(frozen=True, slots=True)
class SurvivorSignature:
    """Round 3: a client's signature under the one survivor list it has seen."""

    kind: ClassVar[Kind] = Kind.SURVIVOR_SIGNATURE
    sender: int
    signature: bytes

    def write(self, out: Writer) -> None:
        out.u16(self.sender).raw(self.signature)

    @classmethod
    def read(cls, source: Reader) -> "SurvivorSignature":
        return cls(source.u16(), source.raw(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True)
class SurvivorSignatures:
    """Round 3: enough of those signatures to show a client that it was not told another list."""

    kind: ClassVar[Kind] = Kind.SURVIVOR_SIGNATURES
    signatures: Mapping[int, bytes]

    def write(self, out: Writer) -> None:
        out.u16(len(self.signatures))
        for index in sorted(self.signatures):
            out.u16(index).raw(self.signatures[index])

    @classmethod
    def read(cls, source: Reader) -> "SurvivorSignatures":
        entries = source.rising(INDEX_BYTES + SIGNATURE_BYTES)
        return cls({i: source.raw(SIGNATURE_BYTES) for i in entries})


@dataclass(frozen=True, slots=True)
class ReleasedShares:
    """Round 4: for each peer one share, of one of its two secrets."""

    kind: ClassVar[Kind] = Kind.RELEASED_SHARES
    sender: int
    shares: Mapping[int, tuple[ShareKind, bytes]] = field(repr=False)

    def write(self, out: Writer) -> None:
        out.u16(self.sender).u16(len(self.shares))
        for index in sorted(self.shares):
            kind, share = self.shares[index]
            out.u16(index).u8(kind).raw(share)

    @classmethod
    def read(cls, source: Reader) -> "ReleasedShares":
        sender = source.u16()
        shares = {}
        for index in source.rising(INDEX_BYTES + 1 + SHARE_BYTES):
            kind = _member(ShareKind, source.u8())
            shares[index] = kind, check_share(source.raw(SHARE_BYTES))
        return cls(sender, shares)


@dataclass(frozen=True, slots=True)
class Abort:
    """Any round: a client leaves, and says why by a code."""

    kind: ClassVar[Kind] = Kind.ABORT
    sender: int
    reason: Reason
    signature: bytes

    def write(self, out: Writer) -> None:
        out.u16(self.sender).u8(self.reason).raw(self.signature)

    @classmethod
    def read(cls, source: Reader) -> "Abort":
        sender, reason = source.u16(), _member(Reason, source.u8())
        return cls(sender, reason, source.raw(SIGNATURE_BYTES))


def _member(kinds: type[E], value: int) -> E:
    try:
        return kinds(value)
    except ValueError as error:
        raise malformed(f"{value} is no {kinds.__name__}") from error


def _write_sealed(out: Writer, sealed: Mapping[int, bytes]) -> None:
    out.u16(len(sealed))
    for index in sorted(sealed):
        out.u16(index).raw(sealed[index])


def _read_sealed(source: Reader) -> dict[int, bytes]:
    return {i: source.raw(SEALED_BYTES) for i in source.rising(INDEX_BYTES + SEALED_BYTES)}
