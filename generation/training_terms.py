"""How nodes train the generator's shared adapter: public constants of a plan."""

from __future__ import annotations

from dataclasses import dataclass

from retrieval.training_terms import check_positive

MOST_TOKENS = 1024
"""Of one pass: full logits of more take gigabytes with a vocabulary of 49,000."""


@dataclass(frozen=True, slots=True)
class GeneratorTerms:
    """How the generator adapter is trained: public, part of the plan, the same at every node.

    Attributes:
        max_prompt_tokens: what a prompt may take; passages that do not fit are cut or left out.
        max_answer_tokens: an answer's later tokens are cut.
        max_examples_per_subject: the first so many by id are used.
        micro_batch: examples of one pass of the model.
        local_steps: steps of gradient descent in one local update (mode `client`).
        local_batch: examples of a local step, drawn without replacement; all if there are fewer.
        learning_rate: of a local step, on the mean gradient of its examples.

    Raises:
        ValueError: a count is not a positive whole number, the learning rate not positive and
            finite, or a pass has more than 1,024 tokens.
    """

    max_prompt_tokens: int = 192
    max_answer_tokens: int = 64
    max_examples_per_subject: int = 8
    micro_batch: int = 4
    local_steps: int = 4
    local_batch: int = 16
    learning_rate: float = 0.5

    def __post_init__(self) -> None:
        check_positive(self, reals=("learning_rate",))
        if self.micro_batch * self.row_tokens > MOST_TOKENS:
            raise ValueError(
                f"{self.micro_batch} rows of {self.row_tokens} tokens are more than a pass of"
                f" {MOST_TOKENS}"
            )

    @property
    def row_tokens(self) -> int:
        """Tokens of a padded row."""
        return self.max_prompt_tokens + self.max_answer_tokens
