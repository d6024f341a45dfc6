"""The next token of one row: temperature, nucleus, no endless repetition, a seed of its own."""

import secrets

import torch
from transformers import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from generation.engine import GenerationRequest


class Sampler:
    """Chooses the tokens of one reply, the same ones for the same seed whatever runs beside it."""

    def __init__(self, request: GenerationRequest, no_repeat_ngram: int = 0) -> None:
        """`no_repeat_ngram`: the reply never says as many tokens in a row twice; 0 allows it.

        The prompt is not looked at: it holds the passages, which an answer has to repeat.
        """
        self._processors = LogitsProcessorList()
        if no_repeat_ngram:
            self._processors.append(NoRepeatNGramLogitsProcessor(no_repeat_ngram))
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
