"""Round 1, share keys: check everybody's keys, then split two secrets among the neighbours.

Bonawitz et al. 2017, figure 4, round 1, with the neighbours of Bell et al. 2020, section 3. The
client trusts nothing of the directory: it looks for its own entry, computes its neighbours itself
and verifies, under the roster it pinned, the signature of every key that it will use. Of the others
only the order of the ring depends (`graph`).
"""

from dataclasses import dataclass
from typing import ClassVar

from federation.secagg.client.advertise import Advertised
from federation.secagg.client.participant import Participant
from federation.secagg.client.stage import Stage
from federation.secagg.messages import (
    INDEX_BYTES,
    Directory,
    SealedShares,
    decode,
    encode,
)
from federation.secagg.primitives import (
    HASH_BYTES,
    KEY_BYTES,
    agree,
    index_bytes,
    new_secret,
    private_key,
)
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.secret import Secret
from federation.secagg.shamir import SHARE_BYTES, split
from federation.secagg.transcript import (
    Transcript,
    check_keys,
    check_members,
    seal_shares,
    seed_commitment,
)
from federation.secagg.wire import Reader, Writer


@dataclass(frozen=True)
class Peer:
    """A neighbour."""

    channel: Secret
    """The X25519 secret of the two channel keys."""
    mask_key: bytes
    """X25519, public."""


@dataclass(frozen=True)
class Shared:
    """The client has split its secrets and waits for its neighbours' shares."""

    stage: ClassVar[Stage] = Stage.SHARED
    mask_private: Secret
    seed: Secret
    """Of the self mask (b)."""
    own_share: Secret
    """The client's own share of that seed."""
    transcript: bytes
    peers: dict[int, Peer]
    """The neighbours."""
    others: frozenset[int]
    """Everybody else in the cohort but this client."""

    def secrets(self) -> tuple[Secret, ...]:
        channels = (peer.channel for peer in self.peers.values())
        return self.mask_private, self.seed, self.own_share, *channels

    def write(self, out: Writer) -> None:
        for secret in (self.mask_private, self.seed, self.own_share):
            out.raw(secret.reveal())
        out.raw(self.transcript).u16(len(self.peers))
        for index, peer in sorted(self.peers.items()):
            out.u16(index).raw(peer.channel.reveal()).raw(peer.mask_key)
        out.u16(len(self.others)).raw(index_bytes(*sorted(self.others)))

    @classmethod
    def read(cls, source: Reader) -> "Shared":
        mask_private, seed, own_share = (
            Secret(source.raw(length)) for length in (KEY_BYTES, KEY_BYTES, SHARE_BYTES)
        )
        transcript = source.raw(HASH_BYTES)
        peers = {
            index: Peer(Secret(source.raw(KEY_BYTES)), source.raw(KEY_BYTES))
            for index in source.rising(INDEX_BYTES + 2 * KEY_BYTES)
        }
        others = frozenset(source.rising(INDEX_BYTES))
        return cls(mask_private, seed, own_share, transcript, peers, others)


def share_keys(me: Participant, state: Advertised, request: bytes) -> tuple[Shared, bytes]:
    """Answer the Directory with SealedShares.

    Raises:
        Refusal: the directory is not this round's, leaves out or changes the client's keys, has a
            repeated, weak, unsigned or unknown key, or a cohort the threat model does not cover.
    """
    entries = dict(decode(Directory, request, me.config.hash).entries)
    if entries.get(me.index) != state.keys:
        raise Refusal(Reason.OWN_KEY_MISSING, "the directory does not repeat the client's keys")
    check_members(me.config, entries)
    me.config.threat_model.check_cohort(len(entries), me.confirmed_among(entries))
    transcript = Transcript(me.config, entries)
    neighbours = sorted(transcript.graph.neighbours(me.index))
    for index in neighbours:
        check_keys(me.config, index, entries[index])

    seed = new_secret()
    threshold = me.config.threat_model.threshold
    holders = [me.index, *neighbours]
    seed_shares = split(seed, threshold, holders)
    key_shares = split(state.mask_private, threshold, holders)
    private = private_key(state.channel_private)
    peers, sealed = {}, {}
    for index in neighbours:
        channel = agree(private, entries[index].channel_key)
        peers[index] = Peer(channel, entries[index].mask_key)
        plain = seed_shares[index] + key_shares[index]
        sealed[index] = seal_shares(transcript.hash, channel, me.index, index, plain)

    shared = Shared(
        state.mask_private,
        seed,
        Secret(seed_shares[me.index]),
        transcript.hash,
        peers,
        frozenset(entries) - peers.keys() - {me.index},
    )
    commitment = seed_commitment(transcript.hash, seed, me.index)
    return shared, encode(SealedShares(me.index, commitment, sealed), me.config.hash)
