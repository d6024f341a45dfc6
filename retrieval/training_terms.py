"""How nodes train a query map: public constants of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MapTerms:
    """The loss and the local work.

    Attributes:
        temperature: divisor of cosines in the loss (tau).
        examples_per_subject: most examples of one subject that count.
        positives, negatives: most passages of each kind in an example; public ones not counted.
        local_steps: gradient steps of a node in mode `client`.
        learning_rate: of those steps.
    """

    temperature: float = 0.05
    examples_per_subject: int = 8
    positives: int = 4
    negatives: int = 16
    local_steps: int = 8
    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        for name in ("temperature", "learning_rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, not {value}")
        for name in ("examples_per_subject", "positives", "local_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.negatives < 0:
            raise ValueError(f"negatives must be 0 or more, not {self.negatives}")
