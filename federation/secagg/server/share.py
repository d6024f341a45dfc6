"""Round 1, share keys: pass on what clients sealed to their neighbours.

Bonawitz et al. 2017, figure 4, round 1. The server can read none of it; it checks that each client
wrote to its own neighbours, all of them and nobody else.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from federation.secagg.config import RoundConfig
from federation.secagg.messages import (
    Delivery,
    Directory,
    KeyEntry,
    SealedShares,
    decode_from,
    encode,
)
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.server.masked import Masking
from federation.secagg.server.masked_sum import MaskedSum
from federation.secagg.server.stage import Stage
from federation.secagg.transcript import Transcript
from federation.secagg.wire import Reader, Writer


@dataclass
class Sharing:
    """The server collects sealed shares."""

    stage: ClassVar[Stage] = Stage.SHARING
    config: RoundConfig
    entries: dict[int, KeyEntry]
    transcript: Transcript
    messages: dict[int, SealedShares] = field(default_factory=dict)

    def expected(self) -> frozenset[int]:
        """Everybody who advertised keys."""
        return frozenset(self.entries)

    def accept(self, sender: int, data: bytes) -> None:
        """Take SealedShares.

        Raises:
            Refusal: they are for others than the sender's neighbours.
        """
        message = decode_from(SealedShares, sender, data, self.config.hash)
        if message.sealed.keys() != self.transcript.graph.neighbours(sender):
            raise Refusal(Reason.WRONG_PEERS, f"client {sender} wrote to others than neighbours")
        self.messages[sender] = message

    def close(self) -> tuple[Masking, dict[int, bytes]]:
        """The next state, and for each client in it the Delivery of its neighbours' shares.

        Raises:
            Refusal: COHORT_TOO_SMALL, the smallest sum could not be reached any more.
        """
        fewest = self.config.threat_model.min_survivors
        if len(self.messages) < fewest:
            raise Refusal(
                Reason.COHORT_TOO_SMALL,
                f"{len(self.messages)} clients shared their secrets; the fewest are {fewest}",
            )
        deliveries = {}
        for index in sorted(self.messages):
            senders = self.transcript.graph.neighbours(index) & self.messages.keys()
            sealed = {sender: self.messages[sender].sealed[index] for sender in senders}
            deliveries[index] = encode(Delivery(sealed), self.config.hash)
        commitments = {index: m.commitment for index, m in sorted(self.messages.items())}
        zero = np.zeros(self.config.dimension, np.uint32)
        start = MaskedSum(self.config, self.entries, self.transcript, commitments, zero)
        return Masking(start), deliveries

    def write(self, out: Writer) -> None:
        Directory(self.entries).write(out)
        out.u16(len(self.messages))
        for message in self.messages.values():
            message.write(out)

    @classmethod
    def read(cls, config: RoundConfig, source: Reader) -> "Sharing":
        entries = dict(Directory.read(source).entries)
        messages = [SealedShares.read(source) for _ in range(source.u16())]
        transcript = Transcript(config, entries)
        return cls(config, entries, transcript, {m.sender: m for m in messages})
