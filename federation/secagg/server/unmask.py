"""Round 4, unmasking: put the released shares together and take the masks off the sum.

Bonawitz et al. 2017, figure 4, round 4. From the sum go the self masks of those who survived, and
the pairwise masks that survivors agreed on with those who did not. Every reconstructed secret is
checked, seeds against their commitments and private keys against their public keys, so that a share
that is wrong gives a refusal and not a wrong sum.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from federation.secagg.config import RoundConfig
from federation.secagg.masks import Mask, apply_masks
from federation.secagg.messages import ReleasedShares, ShareKind, SurvivorList, decode_from
from federation.secagg.primitives import private_key, public_key
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.server.masked_sum import MaskedSum
from federation.secagg.server.stage import Stage
from federation.secagg.shamir import combine
from federation.secagg.transcript import pair_mask, seed_commitment, self_mask
from federation.secagg.wire import Reader, Writer


@dataclass(frozen=True)
class Aggregate:
    """What a round comes to.

    Attributes:
        total: sum of the survivors' vectors modulo 2^32, shape (d,), uint32.
        survivors: roster indices of those whose vector is in it.
    """

    total: NDArray[np.uint32] = field(repr=False)
    survivors: tuple[int, ...]


@dataclass
class Unmasking:
    """The server collects released shares."""

    stage: ClassVar[Stage] = Stage.UNMASKING
    sum: MaskedSum
    asked: frozenset[int]
    """The survivors that were shown enough signatures."""
    messages: dict[int, ReleasedShares] = field(default_factory=dict)

    def expected(self) -> frozenset[int]:
        """Those who were asked."""
        return self.asked

    def accept(self, sender: int, data: bytes) -> None:
        """Take ReleasedShares.

        Raises:
            Refusal: WRONG_PEERS, they are not the one share of each partner that is due.
        """
        message = decode_from(ReleasedShares, sender, data, self.sum.config.hash)
        due = {owner: self._kind(owner) for owner in self.sum.partners(sender) | {sender}}
        if {owner: kind for owner, (kind, _) in message.shares.items()} != due:
            raise Refusal(Reason.WRONG_PEERS, f"client {sender} released other shares than due")
        self.messages[sender] = message

    def open(self, workers: int) -> Aggregate:
        """Take the masks off.

        Args:
            workers: threads that generate masks.

        Raises:
            Refusal: COHORT_TOO_SMALL, too few shares of some secret; BAD_SHARE; SUM_OUT_OF_RANGE.
        """
        total = self.sum.total.copy()
        apply_masks(total, list(self._masks_to_remove()), workers)
        config = self.sum.config
        if _centred_norm(total) > config.max_sum_norm:
            raise Refusal(
                Reason.SUM_OUT_OF_RANGE, f"the norm of the sum is above {config.max_sum_norm}"
            )
        return Aggregate(total, self.sum.survivor_list)

    def write(self, out: Writer) -> None:
        self.sum.write(out)
        SurvivorList(tuple(sorted(self.asked))).write(out)
        out.u16(len(self.messages))
        for message in self.messages.values():
            message.write(out)

    @classmethod
    def read(cls, config: RoundConfig, source: Reader) -> "Unmasking":
        masked_sum = MaskedSum.read(config, source)
        asked = frozenset(SurvivorList.read(source).survivors)
        messages = [ReleasedShares.read(source) for _ in range(source.u16())]
        return cls(masked_sum, asked, {m.sender: m for m in messages})

    def _kind(self, owner: int) -> ShareKind:
        return ShareKind.SELF_MASK if owner in self.sum.survivors else ShareKind.MASK_KEY

    def _masks_to_remove(self) -> Iterator[Mask]:
        """Each mask with its sign turned round."""
        shares: dict[int, dict[int, bytes]] = {owner: {} for owner in self.sum.commitments}
        for holder, message in self.messages.items():
            for owner, (_, share) in message.shares.items():
                shares[owner][holder] = share
        for owner in self.sum.commitments:
            if owner in self.sum.survivors:
                yield self._self_mask(owner, shares[owner])
            else:
                yield from self._pair_masks(owner, shares[owner])

    def _self_mask(self, owner: int, shares: dict[int, bytes]) -> Mask:
        transcript = self.sum.transcript.hash
        seed = combine(shares, self.sum.config.threat_model.threshold)
        if seed_commitment(transcript, seed, owner) != self.sum.commitments[owner]:
            raise Refusal(Reason.BAD_SHARE, f"the seed of client {owner} is not what it shared")
        return _turned(self_mask(transcript, seed, owner))

    def _pair_masks(self, owner: int, shares: dict[int, bytes]) -> Iterator[Mask]:
        """The masks that survivors applied for `owner`, who dropped out."""
        survivors = self.sum.partners(owner) & self.sum.survivors
        if not survivors:
            return
        secret = combine(shares, self.sum.config.threat_model.threshold)
        if public_key(secret) != self.sum.entries[owner].mask_key:
            raise Refusal(Reason.BAD_SHARE, f"the key of client {owner} is not what it advertised")
        private = private_key(secret)
        for peer in survivors:
            public = self.sum.entries[peer].mask_key
            yield _turned(pair_mask(self.sum.transcript.hash, private, public, peer, owner))


def _turned(mask: Mask) -> Mask:
    return Mask(mask.key, not mask.add)


def _centred_norm(total: NDArray[np.uint32]) -> float:
    """L2 norm of the representatives in [-2^31, 2^31)."""
    return float(np.linalg.norm(total.view(np.int32).astype(np.float64)))
