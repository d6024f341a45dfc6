"""LoRA adapters as files that PEFT and vLLM load, and two of them as one.

Nothing here needs torch. What is read may come from anywhere: a configuration and a safetensors
file, of which only ranks, scales and the factors' numbers are taken over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from storage.tensors import read_tensors

if TYPE_CHECKING:
    from generation.ffa_lora import AdaptedModule

CONFIG_FILE = "adapter_config.json"
TENSORS_FILE = "adapter_model.safetensors"
LARGEST: dict[str, int] = {CONFIG_FILE: 1 << 20, TENSORS_FILE: 64 << 20}
"""Bytes that each file may have."""
LARGEST_RANK = 64

_KEY = re.compile(r"base_model\.model\.(\w+(?:\.\w+)*)\.lora_([AB])\.weight")
# Fields of PEFT's configuration that change nothing in a plain LoRA, whatever they say.
_WITHOUT_EFFECT = {
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "lora_dropout", "peft_version"),
    *("qalora_group_size", "revision", "megatron_core"),
    # Which layers it is for is what its tensors say.
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
}
# Other values of these ask for more than factors of linear layers.
_PLAIN: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "task_type": (None, "CAUSAL_LM"),
    "bias": ("none",),
    # Others (PiSSA, OLoRA, ...) also change the model that the adapter is added to.
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
}

Factor = NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class Lora:
    """A plain LoRA adapter: the update of a layer is alpha / rank times B A.

    Attributes:
        base_model: what its files call the model that it is for.
        rank: r.
        alpha: see above.
        factors: A, shape (r, inputs), and B, shape (outputs, r), float32, of each module by its
            dotted name in the causal language model.
    """

    base_model: str
    rank: int
    alpha: int
    factors: Mapping[str, tuple[Factor, Factor]] = field(repr=False)

    def config(self) -> dict[str, Any]:
        """What PEFT's configuration says of it."""
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base_model,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "target_modules": sorted(self.factors),
            "bias": "none",
            "inference_mode": True,
        }

    def weights(self) -> dict[str, Factor]:
        """The factors by PEFT's names."""
        # PEFT's own wrappers are the first two parts of every name.
        return {
            f"base_model.model.{name}.lora_{letter}.weight": np.ascontiguousarray(factor)
            for name, pair in self.factors.items()
            for letter, factor in zip("AB", pair, strict=True)
        }

    def tensors(self) -> bytes:
        """The safetensors file of a PEFT folder."""
        return save(self.weights(), {"format": "pt"})

    def files(self) -> dict[str, bytes]:
        """The files of a PEFT folder. vLLM loads it too where `max_lora_rank` is at least r."""
        config = json.dumps(self.config(), indent=2) + "\n"
        return {CONFIG_FILE: config.encode(), TENSORS_FILE: self.tensors()}

    def check_fits(self, modules: Sequence[AdaptedModule]) -> None:
        """Raises ValueError unless each factor belongs to one of a model's modules."""
        known = {module.name: (module.inputs, module.outputs) for module in modules}
        for name, (layer_a, layer_b) in self.factors.items():
            widths = layer_a.shape[1], layer_b.shape[0]
            if known.get(name) != widths:
                raise ValueError(
                    f"the model has no layer {name} from {widths[0]} to {widths[1]} that takes an"
                    " adapter"
                )


def read_lora(files: Mapping[str, bytes]) -> Lora:
    """The adapter in the files of a PEFT folder, by name.

    Raises:
        ValueError: a file is missing or too large, the configuration is not of a plain LoRA of
            rank 1 to `LARGEST_RANK`, or the tensors are not its factors, finite.
    """
    if files.keys() != LARGEST.keys():
        raise ValueError(f"an adapter is the files {CONFIG_FILE} and {TENSORS_FILE}, no others")
    config = _read_config(files[CONFIG_FILE])
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or not 1 <= rank <= LARGEST_RANK:
        raise ValueError(f"the rank r of an adapter is 1 to {LARGEST_RANK}, not {rank!r}")
    if type(alpha) is float and alpha.is_integer():
        alpha = int(alpha)
    if type(alpha) is not int or not 1 <= alpha <= 1 << 20:
        raise ValueError(f"lora_alpha is a positive whole number, not {alpha!r}")
    base_model = config.get("base_model_name_or_path")
    if not isinstance(base_model, str) or not 1 <= len(base_model) <= 500:
        raise ValueError("the configuration names no base model (base_model_name_or_path)")
    tensors = read_tensors(files[TENSORS_FILE], LARGEST[TENSORS_FILE])
    return Lora(base_model, rank, alpha, _pair_up(tensors, rank))


def combine(first: Lora, second: Lora) -> Lora:
    """One adapter whose update is the sum of both, of rank r1 + r2, for engines that take one.

    Each scale alpha / r is multiplied into A, and the factors stand side by side, as in PEFT's
    `add_weighted_adapter(combination_type="cat")`. A layer that only one adapts is filled up with
    zeros, since engines ask for one rank.
    """
    rank = first.rank + second.rank
    factors: dict[str, tuple[Factor, Factor]] = {}
    for name in sorted({*first.factors, *second.factors}):
        parts = [
            (np.float32(lora.alpha / lora.rank) * lora.factors[name][0], lora.factors[name][1])
            for lora in (first, second)
            if name in lora.factors
        ]
        layer_a = np.concatenate([part[0] for part in parts], axis=0)
        layer_b = np.concatenate([part[1] for part in parts], axis=1)
        missing = rank - len(layer_a)
        factors[name] = (
            np.pad(layer_a, ((0, missing), (0, 0))),
            np.pad(layer_b, ((0, 0), (0, missing))),
        )
    return Lora(first.base_model, rank, rank, factors)


def _read_config(data: bytes) -> dict[str, Any]:
    if len(data) > LARGEST[CONFIG_FILE]:
        raise ValueError(f"{CONFIG_FILE} has at most {LARGEST[CONFIG_FILE]:,} bytes")
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{CONFIG_FILE} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{CONFIG_FILE} is a JSON object")
    if "peft_type" not in config:
        raise ValueError(f"{CONFIG_FILE} does not say its peft_type")
    unusual = [name for name, value in config.items() if not _is_plain(name, value)]
    if unusual:
        raise ValueError(
            f"the adapter sets {', '.join(sorted(unusual))[:200]}; only plain LoRA is accepted"
        )
    return config


def _is_plain(name: str, value: object) -> bool:
    if name in _WITHOUT_EFFECT or name in ("r", "lora_alpha"):
        return True
    if name in _PLAIN:
        return value in _PLAIN[name]
    return value is None or value is False or value in ({}, [], "")


def _pair_up(
    tensors: Mapping[str, NDArray[np.float32]], rank: int
) -> dict[str, tuple[Factor, Factor]]:
    found: dict[str, dict[str, Factor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise ValueError(f"{key[:200]!r} is no factor of a LoRA adapter in PEFT's format")
        side = 0 if match[2] == "A" else 1
        if tensor.ndim != 2 or tensor.shape[side] != rank or not tensor.size:
            raise ValueError(f"{key} is of shape {tensor.shape}, which has no side of rank {rank}")
        found.setdefault(match[1], {})[match[2]] = tensor
    if not found or any(len(pair) != 2 for pair in found.values()):
        raise ValueError("an adapter has both factors, A and B, of at least one layer")
    return {name: (pair["A"], pair["B"]) for name, pair in found.items()}
