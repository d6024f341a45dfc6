"""Round 2, masked input: add each vector up as it comes, then say whose was added.

Bonawitz et al. 2017, figure 4, round 2.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from federation.secagg.config import RoundConfig
from federation.secagg.messages import MaskedInput, SurvivorList, decode_from, encode
from federation.secagg.server.consistency import Signing
from federation.secagg.server.masked_sum import MaskedSum
from federation.secagg.server.stage import Stage
from federation.secagg.wire import Reader, Writer


@dataclass
class Masking:
    """The server adds up masked vectors."""

    stage: ClassVar[Stage] = Stage.MASKING
    sum: MaskedSum

    def expected(self) -> frozenset[int]:
        """Everybody who shared secrets."""
        return frozenset(self.sum.commitments)

    def accept(self, sender: int, data: bytes) -> None:
        """Add a MaskedInput.

        Raises:
            Refusal: MALFORMED, a vector of another length.
        """
        config, total = self.sum.config, self.sum.total
        message = decode_from(MaskedInput, sender, data, config.hash)
        np.add(total, message.vector(config.dimension), out=total)
        self.sum.survivors.add(sender)

    def close(self) -> tuple[Signing, dict[int, bytes]]:
        """The next state, and the SurvivorList for everybody on it.

        Raises:
            Refusal: TOO_FEW_SURVIVORS.
        """
        survivors = self.sum.survivor_list
        self.sum.config.threat_model.check_survivors(len(survivors), len(survivors))
        message = encode(SurvivorList(survivors), self.sum.config.hash)
        return Signing(self.sum), dict.fromkeys(survivors, message)

    def write(self, out: Writer) -> None:
        self.sum.write(out)

    @classmethod
    def read(cls, config: RoundConfig, source: Reader) -> "Masking":
        return cls(MaskedSum.read(config, source))
