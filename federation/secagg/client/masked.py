"""Round 2, masked input: take the neighbours' shares, hide the vector and hand it over.

Bonawitz et al. 2017, figure 4, round 2: y = x + PRG(b) + sum of +-PRG(s_ij) modulo 2^32, over the
neighbours whose shares arrived (U2). Shares are opened here and not in the last round, so that a
sender of garbage is found before any input leaves.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from federation.secagg.client.participant import Participant
from federation.secagg.client.share import Shared
from federation.secagg.client.stage import Stage
from federation.secagg.masks import apply_masks
from federation.secagg.messages import INDEX_BYTES, Delivery, MaskedInput, decode, encode
from federation.secagg.primitives import HASH_BYTES, index_bytes, private_key
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.secret import Secret
from federation.secagg.shamir import SHARE_BYTES, check_share
from federation.secagg.transcript import pair_mask, self_mask, unseal_shares
from federation.secagg.wire import Reader, Writer


@dataclass(frozen=True)
class PeerShares:
    """What a client holds of one peer, of which it will release one or nothing."""

    seed_share: Secret
    key_share: Secret


@dataclass(frozen=True)
class Masked:
    """The client's vector is masked; it waits to hear who survived."""

    stage: ClassVar[Stage] = Stage.MASKED
    own_share: Secret
    transcript: bytes
    peers: dict[int, PeerShares]
    """The neighbours whose shares arrived, hence those with whom a mask was agreed."""
    others: frozenset[int]
    """The cohort less this client and its neighbours, of whom it cannot know who shared."""

    def secrets(self) -> tuple[Secret, ...]:
        held = (s for p in self.peers.values() for s in (p.seed_share, p.key_share))
        return self.own_share, *held

    def write(self, out: Writer) -> None:
        out.raw(self.own_share.reveal()).raw(self.transcript).u16(len(self.peers))
        for index, peer in sorted(self.peers.items()):
            out.u16(index).raw(peer.seed_share.reveal()).raw(peer.key_share.reveal())
        out.u16(len(self.others)).raw(index_bytes(*sorted(self.others)))

    @classmethod
    def read(cls, source: Reader) -> "Masked":
        own_share, transcript = Secret(source.raw(SHARE_BYTES)), source.raw(HASH_BYTES)
        peers = {
            index: PeerShares(Secret(source.raw(SHARE_BYTES)), Secret(source.raw(SHARE_BYTES)))
            for index in source.rising(INDEX_BYTES + 2 * SHARE_BYTES)
        }
        return cls(own_share, transcript, peers, frozenset(source.rising(INDEX_BYTES)))


def mask_input(
    me: Participant, state: Shared, request: bytes, vector: NDArray[np.uint32]
) -> tuple[Masked, bytes]:
    """Answer the Delivery with MaskedInput.

    Args:
        vector: residues modulo 2^32, shape (d,), uint32; not changed.

    Raises:
        Refusal: shares from others than neighbours, from too few of them, or that do not open.
    """
    sealed = decode(Delivery, request, me.config.hash).sealed
    if not state.peers.keys() >= sealed.keys():
        raise Refusal(Reason.WRONG_PEERS, "shares from clients that are no neighbours")
    threshold = me.config.threat_model.threshold
    if len(sealed) + 1 < threshold:
        raise Refusal(
            Reason.COHORT_TOO_SMALL,
            f"{len(sealed)} neighbours shared their secrets; {threshold - 1} are needed",
        )
    peers = {index: _open(me, state, index, box) for index, box in sealed.items()}

    masked = vector.copy()
    masks = [self_mask(state.transcript, state.seed, me.index)]
    private = private_key(state.mask_private)
    for index in peers:
        public = state.peers[index].mask_key
        masks.append(pair_mask(state.transcript, private, public, me.index, index))
    apply_masks(masked, masks)
    return (
        Masked(state.own_share, state.transcript, peers, state.others),
        encode(MaskedInput.of(me.index, masked), me.config.hash),
    )


def _open(me: Participant, state: Shared, index: int, sealed: bytes) -> PeerShares:
    channel = state.peers[index].channel
    plain = unseal_shares(state.transcript, channel, index, me.index, sealed)
    return PeerShares(
        Secret(check_share(plain[:SHARE_BYTES])), Secret(check_share(plain[SHARE_BYTES:]))
    )
