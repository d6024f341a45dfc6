"""Gradients of the shared generator adapter, one example at a time, on a model of its own.

The loss is that of `AnswerLoss`.

Row independence: a subject's row is a function of its own examples, the plan's public inputs
(basis, distractors, terms) and the plan's vector, to the last bit. Examples share a pass of the
model with other subjects', but never a token: there is no attention, normalisation or loss across
rows, and a pass has the same padded shape however many examples are in it, since kernels chosen by
shape move results by some 1e-5. Opacus keeps the rows' gradients apart (`GradSampleModule`).
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from generation.answer_loss import AnswerLoss, GeneratorExample, Row, in_order
from generation.ffa_lora import AdaptedModule, FfaLora, read_basis
from generation.training_terms import GeneratorTerms
from generation.transformers_engine import load_model
from generation.weights import ModelFiles
from retrieval.search import Hit

Reals = NDArray[np.float64]


def describe_modules(location: str, targets: Sequence[str]) -> tuple[AdaptedModule, ...]:
    """The linear layers of a model that `targets` name, in the order that `FfaLora` asks for.

    Reads the model's configuration only, not its weights.

    Args:
        location: of the model, as in `ModelFiles`.
        targets: whole names or ends of names from a dot on, such as "q_proj" or
            "layers.29.self_attn.v_proj".

    Raises:
        ValueError: a target names no linear layer.
        OSError: the configuration cannot be found or read.
    """
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(location)
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    linear = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    chosen: set[str] = set()
    for target in targets:
        meant = {name for name in linear if f".{name}".endswith(f".{target}")}
        if not meant:
            raise ValueError(f"{target!r} names no linear layer of {location}")
        chosen |= meant
    return tuple(
        AdaptedModule(name, linear[name].in_features, linear[name].out_features)
        for name in sorted(chosen)
    )


class GeneratorTrainer:
    """Holds a float32 model on the CPU for training only; one call at a time."""

    def __init__(
        self,
        files: ModelFiles,
        spec: FfaLora,
        basis: bytes,
        distractors: Sequence[Hit],
        terms: GeneratorTerms,
    ) -> None:
        """Load the model, which takes seconds.

        Args:
            files: what `find_model` returned.
            basis: the file of A's, see `ffa_lora.random_basis`.
            distractors: public passages from the plan; as many as fit stand in each prompt beside
                the example's own.

        Raises:
            ValueError: the spec or the basis is not for this model, or a prompt of
                `max_prompt_tokens` has no room for the instruction.
            OSError: the model cannot be found or read.
        """
        self._spec = spec
        self._terms = terms
        # On the CPU, where a kernel of one shape repeats its result to the bit.
        model, tokenizer, _ = load_model(files.location, torch.float32, "cpu")
        self._model, self._trained = _with_adapter(model, spec, basis)
        self._answers = AnswerLoss(
            model,
            tokenizer,
            distractors=distractors,
            max_prompt_tokens=terms.max_prompt_tokens,
            max_answer_tokens=terms.max_answer_tokens,
        )

    def subject_gradients(
        self,
        subjects: Iterable[tuple[bytes, Sequence[GeneratorExample]]],
        vector: NDArray[np.floating],
    ) -> Iterator[tuple[bytes, Reals]]:
        """Each subject's gradient of the loss, summed over its examples (modes with subjects).

        Args:
            subjects: pairs of a subject's id and its examples.
            vector: the plan's, shape (d,), see `FfaLora`.

        Yields:
            Pairs of a subject's id and its row, float64, shape (d,); not clipped, perhaps not
            finite. The server descends along it.

        Raises:
            ValueError: the vector is not of this spec, or two examples of a subject have one id.
        """
        most = self._terms.max_examples_per_subject
        encoded = [
            (subject_id, [self._answers.encode(x) for x in in_order(examples)[:most]])
            for subject_id, examples in subjects
        ]
        self._set(vector)
        gradients = self._gradients([row for _, rows in encoded for row in rows])
        for subject_id, rows in encoded:
            total = np.zeros(self._spec.dimension)
            for gradient in islice(gradients, len(rows)):
                total += gradient
            yield subject_id, total

    def local_update(
        self, examples: Sequence[GeneratorExample], vector: NDArray[np.floating], seed: int
    ) -> Reals:
        """What `local_steps` of gradient descent on a node's examples add to the vector (`client`).

        Args:
            examples: of the whole node; none at all give zeros.
            seed: chooses the examples of each step where the node has more than `local_batch`.

        Returns:
            float64, shape (d,); the server adds it, clipped and averaged.

        Raises:
            ValueError: as `subject_gradients`.
        """
        self._set(vector)
        start = vector.astype(np.float64)
        current = start.copy()
        ordered = in_order(examples)
        size = min(self._terms.local_batch, len(ordered))
        drawn = random.Random(seed)  # noqa: S311 -- which examples a step uses protects nothing
        for _ in range(self._terms.local_steps if ordered else 0):
            batch = [ordered[i] for i in sorted(drawn.sample(range(len(ordered)), size))]
            total = np.zeros(self._spec.dimension)
            for gradient in self._gradients([self._answers.encode(x) for x in batch]):
                total += gradient
            current -= self._terms.learning_rate / size * total
            if not np.abs(current).max() < np.finfo(np.float32).max:
                break
            self._set(current)
        return current - start

    def average_loss(
        self, examples: Sequence[GeneratorExample], vector: NDArray[np.floating]
    ) -> float:
        """Mean loss of the examples, for a node's own eyes: it is a statistic of private data.

        Raises:
            ValueError: there are none, or as `subject_gradients`.
        """
        if not examples:
            raise ValueError("the average loss needs at least one example")
        self._set(vector)
        with torch.no_grad():
            batches = self._batches([self._answers.encode(x) for x in examples])
            return sum(float(self._losses(batch).sum()) for batch in batches) / len(examples)

    def _set(self, vector: NDArray[np.floating]) -> None:
        factors = self._spec.factors(vector)
        with torch.no_grad():
            for module, parameter in zip(self._spec.modules, self._trained, strict=True):
                parameter.copy_(torch.from_numpy(factors[module.name]))

    def _gradients(self, rows: Sequence[Row]) -> Iterator[Reals]:
        """Each row's own, in order."""
        for batch in self._batches(rows):
            self._model.zero_grad()
            with warnings.catch_warnings():
                # In the first adapted layer only B itself asks for a gradient, as it should.
                warnings.filterwarnings("ignore", "Full backward hook is firing")
                self._losses(batch).sum().backward()  # type: ignore[no-untyped-call]
            samples: list[Any] = [parameter.grad_sample for parameter in self._trained]  # type: ignore[attr-defined]
            together = torch.cat([sample.flatten(1) for sample in samples], dim=1)
            self._model.zero_grad()
            yield from together.numpy().astype(np.float64)[: len(batch)]

    def _batches(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        step = self._terms.micro_batch
        return (rows[start : start + step] for start in range(0, len(rows), step))

    def _losses(self, batch: Sequence[Row]) -> torch.Tensor:
        """Shape (micro_batch,), zero where the batch has no row."""
        terms = self._terms
        shape = (terms.micro_batch, terms.row_tokens, terms.max_answer_tokens)
        return self._answers.losses(self._model, batch, shape)


def _with_adapter(
    model: PreTrainedModel, spec: FfaLora, basis: bytes
) -> tuple[GradSampleModule, list[torch.nn.Parameter]]:
    """The model with the adapter in it, and each module's B, which alone is trained."""
    fixed = read_basis(basis, spec)
    linear = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    for module in spec.modules:
        layer = linear.get(module.name)
        if layer is None or (layer.in_features, layer.out_features) != (
            module.inputs,
            module.outputs,
        ):
            raise ValueError(
                f"the model has no linear layer {module.name} from {module.inputs} to"
                f" {module.outputs}"
            )
    names = [module.name for module in spec.modules]
    config = LoraConfig(
        r=spec.rank, lora_alpha=spec.alpha, target_modules=names, task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, config)
    adapted.eval()
    for parameter in adapted.parameters():
        parameter.requires_grad = False
    layers = {n: m for n, m in model.named_modules() if isinstance(m, LoraLayer)}
    trained: list[torch.nn.Parameter] = []
    for name in names:
        layer_a: Any = layers[name].lora_A["default"]
        layer_b: Any = layers[name].lora_B["default"]
        with torch.no_grad():
            layer_a.weight.copy_(torch.from_numpy(fixed[name]))
        layer_b.weight.requires_grad = True
        trained.append(layer_b.weight)
        # Opacus watches a layer in training mode only; the model's dropout stays off.
        layer_b.train()
    # Not strict: it would refuse the model's buffers, which are constants of the positions.
    return GradSampleModule(adapted, loss_reduction="sum", strict=False), trained
