"""Everything that is random in a simulation, from one seed, so that a run can be repeated."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from privacy.encoding import RoundingSecret
from privacy.keystream import Keystream


@dataclass(frozen=True, slots=True)
class Randomness:
    """Independent sources by name. Predictable: what it makes protects nothing."""

    seed: int

    def key(self, *name: str | int) -> bytes:
        """32 bytes."""
        text = "\0".join(map(str, ("alcove/simulation/v1", self.seed, *name)))
        return hashlib.sha256(text.encode()).digest()

    def keystream(self, *name: str | int) -> Keystream:
        """For noise and secret samples."""
        return Keystream(self.key(*name))

    def rounding(self, *name: str | int) -> RoundingSecret:
        """For the coins of rows."""
        return RoundingSecret(self.key(*name))

    def generator(self, *name: str | int) -> np.random.Generator:
        """For who is chosen and who drops out."""
        return np.random.default_rng(int.from_bytes(self.key(*name)))

    def number(self, *name: str | int) -> int:
        """64 bits."""
        return int.from_bytes(self.key(*name)[:8])
