"""What the parties of one round have in common once the keys are known, and the keys it gives.

The transcript hash covers the round's configuration (session, round, plan, model, roster, threat
model) and every advertised key. All masks, sealed shares and survivor signatures are derived from
it or bound to it: parties that were shown different rounds, models or keys have nothing that fits
together (the model inconsistency of Pasquini et al., arXiv 2111.07380, leaves masks that do not
cancel).
"""

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from federation.secagg.config import RoundConfig
from federation.secagg.graph import NeighbourGraph
from federation.secagg.masks import Mask
from federation.secagg.messages import Directory, KeyEntry, encode
from federation.secagg.primitives import (
    Label,
    agree,
    derive,
    digest,
    index_bytes,
    seal,
    sign,
    unseal,
    verify,
)
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.secret import Secret


def sign_keys(
    config: RoundConfig,
    index: int,
    identity: Ed25519PrivateKey,
    channel_key: bytes,
    mask_key: bytes,
) -> KeyEntry:
    """A client's public keys under the signature of its identity."""
    fields = (config.hash, index_bytes(index), channel_key, mask_key)
    return KeyEntry(channel_key, mask_key, sign(identity, Label.ADVERTISE, *fields))


def check_keys(config: RoundConfig, index: int, entry: KeyEntry) -> None:
    """Refuse (BAD_SIGNATURE) keys that the identity at `index` did not sign for this round."""
    fields = (config.hash, index_bytes(index), entry.channel_key, entry.mask_key)
    verify(config.roster[index], entry.signature, Label.ADVERTISE, *fields)


def check_members(config: RoundConfig, entries: Mapping[int, KeyEntry]) -> None:
    """Refuse a directory with strangers, or with a public key in it twice.

    Raises:
        Refusal: NOT_ON_ROSTER or REPEATED_KEY.
    """
    if any(index >= len(config.roster) for index in entries):
        raise Refusal(Reason.NOT_ON_ROSTER, "the directory has more places than the roster")
    keys = [key for entry in entries.values() for key in (entry.channel_key, entry.mask_key)]
    if len(set(keys)) != len(keys):
        raise Refusal(Reason.REPEATED_KEY, "a public key was advertised twice")


class Transcript:
    """The hash, and what follows from it alone."""

    def __init__(self, config: RoundConfig, entries: Mapping[int, KeyEntry]) -> None:
        """`entries`: what was advertised, by roster index."""
        self.hash = digest(Label.DIRECTORY, encode(Directory(entries), config.hash))
        self.graph = NeighbourGraph(tuple(entries), config.threat_model.degree, self.hash)


def seal_shares(transcript: bytes, channel: Secret, src: int, dst: int, plain: bytes) -> bytes:
    """The one message from `src` to `dst`, under a key of this direction.

    `channel`: the X25519 secret of their channel keys.
    """
    indices = index_bytes(src, dst)
    key = derive(channel, Label.SHARE, transcript, indices)
    return seal(key, plain, transcript + indices)


def unseal_shares(transcript: bytes, channel: Secret, src: int, dst: int, sealed: bytes) -> bytes:
    """What `seal_shares` took; Refusal BAD_SHARE where it does not open."""
    indices = index_bytes(src, dst)
    key = derive(channel, Label.SHARE, transcript, indices)
    return unseal(key, sealed, transcript + indices)


def pair_mask(
    transcript: bytes, private: X25519PrivateKey, public: bytes, owner: int, peer: int
) -> Mask:
    """What `owner` applies for its `peer`: of the two, the lower index adds, the higher subtracts.

    `private` may belong to either of them and `public` to the other.
    """
    low, high = sorted((owner, peer))
    key = derive(agree(private, public), Label.PAIR_MASK, transcript, index_bytes(low, high))
    return Mask(key, add=owner == low)


def self_mask(transcript: bytes, seed: Secret, owner: int) -> Mask:
    """What `owner` adds to keep its input hidden once all pairwise masks are known (PRG(b))."""
    return Mask(derive(seed, Label.SELF_MASK, transcript, index_bytes(owner)), add=True)


def seed_commitment(transcript: bytes, seed: Secret, owner: int) -> bytes:
    """Tells the server whether it reconstructed the right seed, and nothing else about it."""
    return derive(seed, Label.COMMITMENT, transcript, index_bytes(owner)).reveal()


def survivor_statement(transcript: bytes, survivors: tuple[int, ...]) -> tuple[bytes, ...]:
    """The fields that a survivor signs under Label.SURVIVORS."""
    return transcript, index_bytes(*survivors)
