"""The coordinator's step from one released vector to the next (Reddi et al., arXiv 2003.00295).

It sees the decoded noisy mean only, so that whatever it does is post-processing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from federation.plan import Optimiser, OptimiserName

Moments = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OptimiserState:
    """First and second moment, float64, shape (d,) each; zero before the first round."""

    first: Moments = field(repr=False)
    second: Moments = field(repr=False)

    @staticmethod
    def zero(dimension: int) -> OptimiserState:
        """Before the first round."""
        return OptimiserState(np.zeros(dimension), np.zeros(dimension))

    def to_bytes(self) -> bytes:
        """Little-endian float64, the first moment before the second."""
        return self.first.astype("<f8").tobytes() + self.second.astype("<f8").tobytes()

    @staticmethod
    def from_bytes(data: bytes, dimension: int) -> OptimiserState:
        """What `to_bytes` wrote. Raises ValueError for another length."""
        if len(data) != 16 * dimension:
            raise ValueError(f"{len(data)} bytes are no moments of {dimension} parameters")
        both = np.frombuffer(data, "<f8").astype(np.float64)
        return OptimiserState(both[:dimension], both[dimension:])


def step(
    optimiser: Optimiser,
    state: OptimiserState,
    vector: NDArray[np.float32],
    direction: NDArray[np.float64],
) -> tuple[NDArray[np.float32], OptimiserState]:
    """The next vector and state.

    Args:
        vector: the vector that nodes trained from, float32, shape (d,).
        direction: where to go, float64, shape (d,): the decoded mean update of mode `client`, or
            the negated mean gradient of the other modes.
    """
    first = optimiser.beta1 * state.first + (1 - optimiser.beta1) * direction
    second = state.second
    if optimiser.name is OptimiserName.FEDADAM:
        second = optimiser.beta2 * second + (1 - optimiser.beta2) * direction**2
        moved = optimiser.learning_rate * first / (np.sqrt(second) + optimiser.adaptivity)
    else:
        moved = optimiser.learning_rate * first
    return (vector + moved).astype(np.float32), OptimiserState(first, second)
