"""The sum under its masks, and what is needed to take them off: all that later rounds keep."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from federation.secagg.config import RoundConfig
from federation.secagg.masks import WORD_BYTES
from federation.secagg.messages import INDEX_BYTES, Directory, KeyEntry, SurvivorList
from federation.secagg.primitives import KEY_BYTES
from federation.secagg.transcript import Transcript
from federation.secagg.wire import Reader, Writer


@dataclass
class MaskedSum:
    """One vector of d words, whatever the number of clients.

    Attributes:
        entries: what was advertised (U1).
        commitments: to the self-mask seeds, by client that shared its secrets (U2).
        total: sum of the masked inputs modulo 2^32, shape (d,), uint32.
        survivors: whose input is in it (U3).
    """

    config: RoundConfig
    entries: dict[int, KeyEntry]
    transcript: Transcript
    commitments: dict[int, bytes]
    total: NDArray[np.uint32] = field(repr=False)
    survivors: set[int] = field(default_factory=set)

    @property
    def survivor_list(self) -> tuple[int, ...]:
        """The survivors as they are listed and signed."""
        return tuple(sorted(self.survivors))

    def partners(self, index: int) -> frozenset[int]:
        """The neighbours with whom `index` agreed on a mask: those that shared their secrets."""
        return self.transcript.graph.neighbours(index) & self.commitments.keys()

    def write(self, out: Writer) -> None:
        Directory(self.entries).write(out)
        out.u16(len(self.commitments))
        for index, commitment in sorted(self.commitments.items()):
            out.u16(index).raw(commitment)
        SurvivorList(self.survivor_list).write(out)
        out.raw(self.total.astype(">u4").tobytes())

    @classmethod
    def read(cls, config: RoundConfig, source: Reader) -> "MaskedSum":
        entries = dict(Directory.read(source).entries)
        commitments = {i: source.raw(KEY_BYTES) for i in source.rising(INDEX_BYTES + KEY_BYTES)}
        survivors = set(SurvivorList.read(source).survivors)
        words = source.raw(WORD_BYTES * config.dimension)
        total = np.frombuffer(words, dtype=">u4").astype(np.uint32)
        return cls(config, entries, Transcript(config, entries), commitments, total, survivors)
