"""The loss of an answer after the prompt that serving builds, for training adapters.

The loss of an example is the mean cross entropy of its answer's tokens, the end of the turn
included, after the prompt that serving would build from its question and passages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from generation.engine import Message, PromptTooLongError
from generation.prompt import build_prompt
from generation.tokens import ChatTokenizer
from retrieval.search import Hit

_IGNORED = -100


def bare_passage(text: str) -> Hit:
    """A passage of which only the text is known, as examples are made of it."""
    return Hit("", "", None, "", "", "", None, 0, text, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class GeneratorExample:
    """A question, the passages of one subject that answer it, the best first, and the answer.

    Attributes:
        example_id: fixes the example's place among those of its subject.

    Raises:
        ValueError: there is no passage.
    """

    example_id: bytes
    question: str
    passages: tuple[Hit, ...]
    answer: str

    def __post_init__(self) -> None:
        if not self.passages:
            raise ValueError("an example has at least one passage that its answer stands on")


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of an example."""

    prompt: list[int]
    answer: list[int]

    @property
    def tokens(self) -> int:
        """Of prompt and answer."""
        return len(self.prompt) + len(self.answer)


class AnswerLoss:
    """Losses of examples on one model. For one thread."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: ChatTokenizer,
        *,
        distractors: Sequence[Hit],
        max_prompt_tokens: int,
        max_answer_tokens: int,
    ) -> None:
        """Adds a hook to the model, which serves no other end from then on.

        Args:
            distractors: as many as fit stand in each prompt beside the example's own passages.
            max_prompt_tokens: passages that do not fit are cut or left out.
            max_answer_tokens: an answer's later tokens are cut.

        Raises:
            ValueError: the model has no output layer of its own, or a prompt has no room for the
                instruction.
        """
        self._tokenizer = tokenizer
        self._distractors = tuple(distractors)
        self._max_prompt_tokens = max_prompt_tokens
        self._max_answer_tokens = max_answer_tokens
        head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        if head is None:
            raise ValueError("the model has no output layer of its own to train through")
        # Before the vocabulary's matrix, which would dominate if it met the prompt's tokens too.
        head.register_forward_pre_hook(self._only_answers)
        self._answer_places = torch.zeros((0, 0), dtype=torch.long)
        if not self._fits("", bare_passage("")):
            raise ValueError(
                f"max_prompt_tokens {max_prompt_tokens} has no room for the instruction"
            )

    def encode(self, example: GeneratorExample) -> Row:
        """Whatever is too long is cut rather than refused."""
        answer = self._tokenizer.encode_reply(example.answer)
        return Row(self._prompt(example), answer[: self._max_answer_tokens])

    def losses(
        self, model: torch.nn.Module, rows: Sequence[Row], shape: tuple[int, int, int]
    ) -> torch.Tensor:
        """The mean loss of each row, zero where there is none; shape (n,), float32.

        Args:
            model: what was given to `__init__`, or a wrapper of it.
            shape: rows of the pass (n), tokens of each, and answer's tokens of each, padded on the
                right; a kernel's last bits depend on it.
        """
        count, row_tokens, answer_tokens = shape
        ids = torch.zeros((count, row_tokens), dtype=torch.long)
        labels = torch.full((count, answer_tokens), _IGNORED)
        starts = torch.zeros((count, 1), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : row.tokens] = torch.tensor(row.prompt + row.answer)
            labels[place, : len(row.answer)] = torch.tensor(row.answer)
            # The last token of the prompt predicts the first one of the answer.
            starts[place] = len(row.prompt) - 1
        self._answer_places = starts + torch.arange(answer_tokens)
        # Padding comes after all that is read, so causality is mask enough.
        logits: Any = model(input_ids=ids, use_cache=False).logits
        losses = cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED, reduction="none"
        ).view_as(labels)
        return losses.sum(dim=1) / (labels != _IGNORED).sum(dim=1).clamp(min=1)

    def _only_answers(
        self, _head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...]:
        """Of hidden states (rows, tokens, width) those that predict the answers."""
        (hidden,) = inputs
        rows = torch.arange(len(hidden))[:, None]
        return (hidden[rows, self._answer_places],)

    def _prompt(self, example: GeneratorExample) -> list[int]:
        """As serving builds it, with whatever is too long cut rather than refused."""
        question, best = example.question, example.passages[0]
        if not self._fits(question, replace(best, text="")):
            best = replace(best, title="", heading="", page=None)
        question = _longest(question, lambda start: self._fits(start, replace(best, text="")))
        text = _longest(best.text, lambda start: self._fits(question, replace(best, text=start)))
        passages = (replace(best, text=text), *example.passages[1:], *self._distractors)
        return self._tokenizer.encode(self._build(question, passages))

    def _fits(self, question: str, passage: Hit) -> bool:
        try:
            self._build(question, [passage])
        except PromptTooLongError:
            return False
        return True

    def _build(self, question: str, passages: Sequence[Hit]) -> tuple[Message, ...]:
        # An owner's answers carry no citation marks, so the instruction asks for none.
        return build_prompt(
            [Message("user", question)],
            passages,
            count_tokens=lambda messages: len(self._tokenizer.encode(messages)),
            prompt_tokens=self._max_prompt_tokens,
            cites=False,
        ).messages


def in_order(examples: Sequence[GeneratorExample]) -> list[GeneratorExample]:
    """By id. Raises ValueError if two have the same, since their order would then be chance."""
    ordered = sorted(examples, key=lambda example: example.example_id)
    if len({example.example_id for example in ordered}) < len(ordered):
        raise ValueError("two examples of one subject or node have the same id")
    return ordered


def _longest(text: str, fits: Callable[[str], bool]) -> str:
    """The longest start of `text` that a bisection finds to fit, where the empty one does."""
    if fits(text):
        return text
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle)
    return text[:low]
