"""How nodes train the generator's shared adapter: public constants of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GeneratorTerms:
    """Lengths, which bound a row's time and memory, and the local work.

    Attributes:
        examples_per_subject: most examples of one subject that count.
        prompt_tokens, answer_tokens: longer ones are cut.
        local_steps: gradient steps of a node in mode `client`.
        learning_rate: of those steps.
    """

    examples_per_subject: int = 4
    prompt_tokens: int = 192
    answer_tokens: int = 48
    local_steps: int = 4
    learning_rate: float = 0.05

    def __post_init__(self) -> None:
        for name in ("examples_per_subject", "prompt_tokens", "answer_tokens", "local_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be a positive number, not {self.learning_rate}")
