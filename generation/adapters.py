"""LoRA adapters on one model, chosen for each row of a batch. Used by the engine thread only."""

import re
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModelForCausalLM, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from generation.adapter_files import Lora, combine

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# PEFT's own word for a row that runs the model as it is.
_BASE = "__base__"


class AdapterSet:
    """The adapters that a model holds, and which of them each row of the next pass uses."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._peft: Any = None
        self._loras: dict[str, Lora] = {}
        self._pairs: set[tuple[str, str]] = set()
        self._rows: list[str] = []
        self._hooked: set[LoraLayer] = set()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._loras)

    def load(self, name: str, lora: Lora) -> None:
        """Add an adapter under `name`.

        Raises:
            ValueError: the name is taken or malformed, or the adapter does not fit this model.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no adapter name: 1 to 64 letters, digits, '-' and '_'")
        if name in self._loras:
            raise ValueError(f"the generator already holds an adapter called {name!r}")
        self._hold(_single(name), name, lora)
        self._loras[name] = lora

    def unload(self, name: str) -> None:
        """Forget `name` and every pair that it is part of. Raises KeyError if it is not held."""
        del self._loras[name]
        for pair in [pair for pair in self._pairs if name in pair]:
            self._pairs.remove(pair)
            self._discard(_pair(*pair))
        self._discard(_single(name))

    def use(self, rows: Sequence[tuple[str, ...]]) -> None:
        """The adapters of each row of the next forward pass: none, one, or two at once.

        Two become one adapter, whose factors are theirs side by side: the sum of both updates.
        """
        self._rows = [self._internal(adapters) for adapters in rows]

    def _internal(self, adapters: tuple[str, ...]) -> str:
        match adapters:
            case ():
                return _BASE
            case (name,):
                return _single(name)
            case (first, second):
                pair = (min(first, second), max(first, second))
                if pair not in self._pairs:
                    self._combine(pair)
                return _pair(*pair)
        raise ValueError(f"a row has at most two adapters, not {len(adapters)}")

    def _combine(self, pair: tuple[str, str]) -> None:
        # PEFT's own `add_weighted_adapter` rounds the factors of both to the model's precision.
        both = combine(*(self._loras[name] for name in pair))
        with torch.inference_mode(mode=False), torch.no_grad():
            self._hold(_pair(*pair), " and ".join(pair), both)
        self._pairs.add(pair)

    def _hold(self, internal: str, told: str, lora: Lora) -> None:
        """Give the model an adapter; `told` is what an error calls it."""
        config, weights = peft_form(lora)
        try:
            self._insert(internal, config)
            missing, unexpected = self._fill(internal, weights)
        except (ValueError, RuntimeError) as error:
            self._discard(internal)
            raise ValueError(f"the adapter {told} does not fit the model: {error}") from error
        if missing or unexpected:
            self._discard(internal)
            raise ValueError(
                f"the adapter {told} does not fit the model: {len(missing)} tensors are missing"
                f" and {len(unexpected)} have no place in it"
            )
        self._hook_new_layers()

    def _insert(self, internal: str, config: LoraConfig) -> None:
        if self._peft is None:
            self._peft = PeftModelForCausalLM(self._model, config, adapter_name=internal)
            self._peft.eval()
        else:
            self._peft.add_adapter(internal, config)

    def _fill(self, internal: str, weights: dict[str, torch.Tensor]) -> tuple[list[str], list[str]]:
        result: Any = set_peft_model_state_dict(self._peft, weights, adapter_name=internal)
        missing = [key for key in result.missing_keys if f".{internal}." in key]
        return missing, list(result.unexpected_keys)

    def _discard(self, internal: str) -> None:
        if self._peft is None or internal not in self._peft.peft_config:
            return
        with warnings.catch_warnings():
            # PEFT warns that no adapter is active, which a choice by row never needs.
            warnings.simplefilter("ignore", UserWarning)
            self._peft.delete_adapter(internal)

    def _hook_new_layers(self) -> None:
        # PEFT's own `adapter_names` argument adds and removes a hook on every layer in every pass,
        # 9 ms of each decoding step here, and leaves stale hooks behind when a pass raises.
        for module in self._model.modules():
            if isinstance(module, LoraLayer) and module not in self._hooked:
                module.register_forward_pre_hook(self._name_rows, with_kwargs=True)
                self._hooked.add(module)

    def _name_rows(
        self, _module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {**kwargs, "adapter_names": self._rows}


def peft_form(lora: Lora) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """Configuration and weights as PEFT takes them."""
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=sorted(lora.factors),
        task_type="CAUSAL_LM",
        inference_mode=True,
    )
    return config, {name: torch.tensor(factor) for name, factor in lora.weights().items()}


def _single(name: str) -> str:
    # A bare name may be part of PEFT's parameter prefix "lora_", which resets weights on loading.
    return f"one-{name}"


def _pair(first: str, second: str) -> str:
    return f"two-{first}+{second}"
