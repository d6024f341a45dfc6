"""Scores of a population's questions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Scores:
    """Of each question, and where it belongs.

    Attributes:
        values: float64, shape (q,), in the order of the population's tasks.
        groups: of each question the place of its group in `Population.scored_groups`, int64,
            shape (q,).
    """

    values: NDArray[np.float64] = field(repr=False)
    groups: NDArray[np.int64] = field(repr=False)

    @property
    def mean(self) -> float:
        """Of the groups' means: a large group counts no more than a small one."""
        return float((np.bincount(self.groups, self.values) / np.bincount(self.groups)).mean())
