"""The personal generator adapter: an ordinary LoRA (Hu et al., arXiv 2106.09685) on a few answers.

The shared adapter is active in the same pass and frozen, so that the personal one learns only what
the pair still lacks. A few examples must not make answers worse: every pass over them is measured
on answers held back, the best one is kept, and doing nothing counts as the first. The same answers
choose which part of its update is kept: the less, the closer to the shared adapter.

The result is a function of the set of examples, the model, the shared adapter and the seed, to the
last bit on one machine: one thread, examples in order of their ids, one in each pass of the model.
So an adapter retrained after an erasure is the one that never saw what was erased.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import LoraConfig, PeftModelForCausalLM, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from generation.adapter_files import Lora
from generation.adapters import peft_form
from generation.answer_loss import AnswerLoss, GeneratorExample, Row, in_order
from generation.transformers_engine import load_model
from generation.weights import ModelFiles

RANK = 8
ALPHA = 16
TARGETS = ("q_proj", "v_proj")

MAX_PROMPT_TOKENS = 384
MAX_ANSWER_TOKENS = 128
BATCH = 4
"""Examples of a step."""
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1.0
"""AdamW's (arXiv 1711.05101) on B alone: it shrinks the update B A towards the shared adapter."""
SCALES = (0.75, 0.5, 0.25)
"""Of the best pass's update, tried on the held-back answers beside all of it and nothing."""
MOST_EPOCHS = 10
PATIENCE = 2
"""Passes in a row that do not help, after which training ends."""
MOST_GRADIENTS = 400
"""Of single examples in all; one takes a second or two of a core with the default model."""
MOST_HELD_BACK = 100

_PERSONAL, _SHARED = "personal", "shared"


@dataclass(frozen=True, slots=True)
class PersonalLora:
    """A personal adapter as files of a PEFT folder.

    Attributes:
        config: of `adapter_config.json`.
        tensors: of `adapter_model.safetensors`.
        before, after: mean loss of the held-back answers, with the shared adapter alone and with
            both; equal if nothing helped, and then the adapter changes nothing.
    """

    config: dict[str, Any]
    tensors: bytes = field(repr=False)
    before: float
    after: float


def train(
    files: ModelFiles,
    examples: Sequence[GeneratorExample],
    held_back: Sequence[GeneratorExample],
    shared: Lora | None,
    seed: int,
    progress: Callable[[int, int], None],
) -> PersonalLora:
    """Train a personal adapter; takes seconds to load the model and minutes in all.

    Args:
        files: what `find_model` returned.
        examples: trained on; the first `MOST_GRADIENTS` by id.
        held_back: chooses when to stop; the first `MOST_HELD_BACK` by id.
        shared: the shared adapter that will be active beside it.
        seed: draws the start of A.
        progress: called with the steps done and the most that there will be, after each.

    Raises:
        ValueError: there are no examples or none held back, one is in both or has the id of
            another, or the shared adapter does not fit the model.
        OSError: the model cannot be found or read.
    """
    if not examples or not held_back:
        raise ValueError("a personal adapter needs at least one answer to learn and one held back")
    ordered = in_order([*examples, *held_back])
    measured = {example.example_id for example in held_back}
    with _one_thread():
        model, tokenizer, _ = load_model(files.location, torch.float32, "cpu")
        peft = _with_adapters(model, shared, seed)
        answers = AnswerLoss(
            model,
            tokenizer,
            distractors=(),
            max_prompt_tokens=MAX_PROMPT_TOKENS,
            max_answer_tokens=MAX_ANSWER_TOKENS,
        )
        learned = [answers.encode(x) for x in ordered if x.example_id not in measured]
        kept = [answers.encode(x) for x in ordered if x.example_id in measured]
        training = _Training(peft, answers, learned, kept[:MOST_HELD_BACK])
        before = training.held_back_loss()
        training.run(before, progress)
    factors = {
        name: (layer_a.detach().numpy(), layer_b.detach().numpy())
        for name, (layer_a, layer_b) in _factors(model).items()
    }
    made = Lora(files.model_id, RANK, ALPHA, factors)
    return PersonalLora(made.config(), made.tensors(), before, training.best)


class _Training:
    """Steps of AdamW on the personal factors, and the best of them."""

    def __init__(
        self,
        model: torch.nn.Module,
        answers: AnswerLoss,
        learned: Sequence[Row],
        kept: Sequence[Row],
    ) -> None:
        self._model = model
        self._answers = answers
        self._learned = learned[:MOST_GRADIENTS]
        self._kept = kept
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self._trained = [parameter for _, parameter in named]
        fixed_scale = [p for n, p in named if "lora_A" in n]
        decayed = [p for n, p in named if "lora_B" in n]
        self._updates = decayed
        self._optimiser = torch.optim.AdamW(
            [
                {"params": fixed_scale, "weight_decay": 0.0},
                {"params": decayed, "weight_decay": WEIGHT_DECAY},
            ],
            lr=LEARNING_RATE,
            foreach=False,
        )
        self.best = math.inf

    def held_back_loss(self) -> float:
        with torch.no_grad():
            return sum(float(self._loss(row)) for row in self._kept) / len(self._kept)

    def run(self, before: float, progress: Callable[[int, int], None]) -> None:
        """Leaves the best parameters in the model, and of their update the best part."""
        self.best, best_state = before, self._state()
        epochs = list(_epochs(self._learned))
        total = sum(len(batches) for batches in epochs)
        done = worse = 0
        for batches in epochs:
            for batch in batches:
                self._step(batch)
                done += 1
                progress(done, total)
            loss = self.held_back_loss()
            if loss < self.best:
                self.best, best_state = loss, self._state()
                worse = 0
            else:
                worse += 1
            if worse == PATIENCE:
                break
        with torch.no_grad():
            for parameter, value in zip(self._trained, best_state, strict=True):
                parameter.copy_(value)
        if self.best < before:
            self._shrink()

    @torch.no_grad()
    def _shrink(self) -> None:
        whole = [update.clone() for update in self._updates]
        chosen = 1.0
        for scale in SCALES:
            self._scale(whole, scale)
            loss = self.held_back_loss()
            if loss < self.best:
                self.best, chosen = loss, scale
        self._scale(whole, chosen)

    def _scale(self, whole: Sequence[torch.Tensor], scale: float) -> None:
        for update, value in zip(self._updates, whole, strict=True):
            update.copy_(scale * value)

    def _step(self, batch: Sequence[Row]) -> None:
        self._optimiser.zero_grad()
        for row in batch:
            (self._loss(row) / len(batch)).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()

    def _loss(self, row: Row) -> torch.Tensor:
        return self._answers.losses(self._model, [row], (1, row.tokens, len(row.answer)))[0]

    def _state(self) -> list[torch.Tensor]:
        return [parameter.detach().clone() for parameter in self._trained]


def _epochs(rows: Sequence[Row]) -> Iterator[list[Sequence[Row]]]:
    """The batches of each pass; the last pass is cut where the gradients end."""
    left = MOST_GRADIENTS
    for _ in range(MOST_EPOCHS):
        used = rows[:left]
        if used:
            yield [used[start : start + BATCH] for start in range(0, len(used), BATCH)]
        left -= len(used)


def _with_adapters(model: PreTrainedModel, shared: Lora | None, seed: int) -> PeftModelForCausalLM:
    """Both adapters active, of which only the personal one is trained; its update is zero."""
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), task_type="CAUSAL_LM"
    )
    adapted = PeftModelForCausalLM(model, config, adapter_name=_PERSONAL)
    active = [_PERSONAL]
    if shared is not None:
        _add_shared(adapted, shared)
        active.append(_SHARED)
    base: Any = adapted.base_model
    base.set_adapter(active, inference_mode=True)
    adapted.eval()
    drawn = torch.Generator().manual_seed(seed)
    for _, (layer_a, layer_b) in sorted(_factors(model).items()):
        with torch.no_grad():
            # As in the LoRA paper's own code: A random, B zero.
            torch.nn.init.kaiming_uniform_(layer_a, a=math.sqrt(5), generator=drawn)
            layer_b.zero_()
        layer_a.requires_grad = layer_b.requires_grad = True
    return adapted


def _add_shared(adapted: PeftModelForCausalLM, shared: Lora) -> None:
    config, weights = peft_form(shared)
    try:
        adapted.add_adapter(_SHARED, config)
        result: Any = set_peft_model_state_dict(adapted, weights, adapter_name=_SHARED)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"the shared adapter does not fit the model: {error}") from error
    missing = [key for key in result.missing_keys if f".{_SHARED}." in key]
    if missing or result.unexpected_keys:
        raise ValueError("the shared adapter does not fit the model: it adapts other modules")


def _factors(model: PreTrainedModel) -> dict[str, tuple[torch.nn.Parameter, torch.nn.Parameter]]:
    """A and B of the personal adapter, by the name of the module."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and _PERSONAL in module.lora_A:
            layers: Any = module.lora_A[_PERSONAL], module.lora_B[_PERSONAL]
            found[name] = layers[0].weight, layers[1].weight
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in several threads depend on how work is split."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
