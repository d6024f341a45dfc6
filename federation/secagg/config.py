"""What a round is: the public record that every signature, key and hash is bound to."""

from dataclasses import dataclass, field
from functools import cached_property

from federation.secagg.primitives import HASH_BYTES, KEY_BYTES, Label, digest
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.threat_model import Active, HonestButCurious, ModelKind, ThreatModel
from federation.secagg.wire import Reader, Writer, malformed

LARGEST_DIMENSION = 2**28
"""1 GiB of masked input; above it a length field was misread rather than meant."""

_VERSION = 1
_MODELS: dict[int, type[HonestButCurious] | type[Active]] = {
    ModelKind.HONEST_BUT_CURIOUS: HonestButCurious,
    ModelKind.ACTIVE: Active,
}


@dataclass(frozen=True)
class RoundConfig:
    """One round of secure aggregation; clients that disagree on any of it cannot be summed up.

    Attributes:
        session: 32 bytes that name the federation's run.
        round_number: the round of the run, below 2^32; one configuration is used once.
        plan_hash: hash of the signed plan, 32 bytes.
        model_hash: hash of the parameters that clients train from, 32 bytes.
        dimension: words of the vector (d).
        max_sum_norm: largest L2 norm that the centred sum may have, in units of the ring's
            integers; the plan's clip times n, plus what noise may add.
        roster: Ed25519 identities of the invited clients, 32 bytes each, all different; a client's
            index is its place here.
        threat_model: what is promised, with t_min, c, k and t.

    Raises:
        ValueError: a field is out of range.
    """

    session: bytes
    round_number: int
    plan_hash: bytes
    model_hash: bytes
    dimension: int
    max_sum_norm: int
    roster: tuple[bytes, ...] = field(repr=False)
    threat_model: ThreatModel

    def __post_init__(self) -> None:
        for name in ("session", "plan_hash", "model_hash"):
            if len(getattr(self, name)) != HASH_BYTES:
                raise ValueError(f"{name} must have {HASH_BYTES} bytes")
        for name, most in (
            ("round_number", 2**32 - 1),
            ("max_sum_norm", 2**64 - 1),
            ("dimension", LARGEST_DIMENSION),
        ):
            least = 1 if name == "dimension" else 0
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie between {least} and {most}")
        if any(len(identity) != KEY_BYTES for identity in self.roster):
            raise ValueError(f"an identity on the roster has {KEY_BYTES} bytes")
        if len(set(self.roster)) != len(self.roster):
            raise ValueError("an identity is twice on the roster")
        if len(self.roster) != self.threat_model.clients:
            raise ValueError(
                f"{len(self.roster)} identities on the roster, but the threat model is for "
                f"{self.threat_model.clients} clients"
            )

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of the label and `to_bytes`; everything else binds to it."""
        return digest(Label.CONFIG, self.to_bytes())

    def index_of(self, identity: bytes) -> int:
        """A client's place on the roster.

        Raises:
            Refusal: NOT_ON_ROSTER.
        """
        try:
            return self.roster.index(identity)
        except ValueError as error:
            raise Refusal(Reason.NOT_ON_ROSTER, "the identity is not on the roster") from error

    def to_bytes(self) -> bytes:
        """The canonical encoding."""
        model = self.threat_model
        out = Writer().u8(_VERSION).raw(self.session).u32(self.round_number)
        out.raw(self.plan_hash).raw(self.model_hash).u32(self.dimension).u64(self.max_sum_norm)
        out.u8(model.kind).u16(model.min_survivors).u16(model.colluders)
        out.u16(model.degree).u16(model.threshold)
        out.u16(len(self.roster))
        for identity in self.roster:
            out.raw(identity)
        return out.bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "RoundConfig":
        """The record that `to_bytes` encoded.

        Raises:
            Refusal: MALFORMED, or UNSAFE_PARAMETERS of its threat model.
        """
        source = Reader(data)
        if source.u8() != _VERSION:
            raise malformed("not a round configuration of this version")
        session, round_number = source.raw(HASH_BYTES), source.u32()
        plan_hash, model_hash = source.raw(HASH_BYTES), source.raw(HASH_BYTES)
        dimension, max_sum_norm = source.u32(), source.u64()
        model = _MODELS.get(source.u8())
        if model is None:
            raise malformed("an unknown threat model")
        min_survivors, colluders, degree, threshold = (source.u16() for _ in range(4))
        clients = source.u16()
        if clients * KEY_BYTES != source.left:
            raise malformed(f"{clients} identities do not fit {source.left} bytes")
        roster = tuple(source.raw(KEY_BYTES) for _ in range(clients))
        try:
            return cls(
                session,
                round_number,
                plan_hash,
                model_hash,
                dimension,
                max_sum_norm,
                roster,
                model(clients, min_survivors, colluders, degree, threshold),
            )
        except ValueError as error:
            raise malformed(str(error)) from error
