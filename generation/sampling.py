"""The next token of one row: repetition control, temperature, nucleus, and a seed of its own."""

import secrets

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from generation.engine import GenerationRequest


class Sampler:
    """Chooses the tokens of one reply, the same ones for the same seed whatever runs beside it."""

    def __init__(self, request: GenerationRequest, repetition_penalty: float) -> None:
        """`repetition_penalty` as in Keskar et al. 2019 (CTRL), section 4.1; 1 switches it off.

        Only tokens of the reply are penalised: those of the prompt hold the passages, which an
        answer has to repeat.
        """
        self._processors = LogitsProcessorList()
        if repetition_penalty != 1.0:
            self._processors.append(RepetitionPenaltyLogitsProcessor(repetition_penalty))
        self._generator: torch.Generator | None = None
        if request.temperature > 0:
            if request.temperature != 1.0:
                self._processors.append(TemperatureLogitsWarper(request.temperature))
            if request.top_p < 1.0:
                self._processors.append(TopPLogitsWarper(request.top_p))
            seed = secrets.randbits(63) if request.seed is None else request.seed
            self._generator = torch.Generator().manual_seed(seed)

    def next_token(self, reply: list[int], logits: torch.Tensor) -> int:
        """The token after `reply`, from `logits` of shape (vocabulary,)."""
        scores: torch.Tensor = logits[None].float().cpu()
        scores = self._processors(torch.LongTensor([reply]), scores)
        if self._generator is None:
            return int(scores.argmax())
        return int(torch.multinomial(scores.softmax(-1), 1, generator=self._generator))
