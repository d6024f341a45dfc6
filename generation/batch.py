"""Rows that decode together: each joins after its prompt is read and leaves when it is done."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from generation.adapters import AdapterSet


class Prefill:
    """The prompt of one row, read in pieces so that other rows are not held up for long."""

    def __init__(
        self,
        model: PreTrainedModel,
        adapters: AdapterSet,
        prompt: Sequence[int],
        names: tuple[str, ...],
    ) -> None:
        self._model = model
        self._adapters = adapters
        self._names = names
        self._prompt = torch.tensor([prompt], device=model.device)
        self.cache = _new_cache()

    @property
    def remaining(self) -> int:
        """Tokens of the prompt not read yet."""
        return self._prompt.shape[1] - self.cache.get_seq_length()

    def advance(self, tokens: int) -> torch.Tensor | None:
        """Read at most `tokens` more; after the last, logits (vocabulary,) for the next token."""
        start = self.cache.get_seq_length()
        piece = self._prompt[:, start : start + tokens]
        self._adapters.use([self._names])
        output: Any = self._model(piece, past_key_values=self.cache, logits_to_keep=1)
        return None if self.remaining else output.logits[0, -1]


class Batch:
    """Keys and values of all rows in one cache, padded on the left to the longest row."""

    def __init__(self, model: PreTrainedModel, adapters: AdapterSet) -> None:
        self._model = model
        self._adapters = adapters
        self._names: list[tuple[str, ...]] = []
        self._cache = _new_cache()
        # 1 where a row has a token, 0 where it is padded; shape (rows, length of the cache).
        self._mask = torch.empty((0, 0), dtype=torch.long, device=model.device)

    def join(self, row: Prefill, names: tuple[str, ...]) -> None:
        """Add a row, whose prompt has been read, as the last one."""
        length, added = self._mask.shape[1], row.cache.get_seq_length()
        total = max(length, added)
        if self._names:
            for old, new in zip(_layers(self._cache), _layers(row.cache), strict=True):
                old.keys = torch.cat([_padded(old.keys, total), _padded(new.keys, total)])
                old.values = torch.cat([_padded(old.values, total), _padded(new.values, total)])
        else:
            self._cache = row.cache
        mask = torch.ones((1, added), dtype=torch.long, device=self._mask.device)
        self._mask = torch.cat(
            [pad(self._mask, (total - length, 0)), pad(mask, (total - added, 0))]
        )
        self._names.append(names)

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Logits (rows, vocabulary) after each row's newest token."""
        positions = self._mask.sum(1, keepdim=True)
        self._mask = pad(self._mask, (0, 1), value=1)
        self._adapters.use(self._names)
        output: Any = self._model(
            torch.tensor(tokens, device=self._mask.device)[:, None],
            past_key_values=self._cache,
            attention_mask=self._mask,
            position_ids=positions,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row but these, and the padding that none of them needs."""
        self._names = [self._names[row] for row in rows]
        if not rows:
            self._cache = _new_cache()
            self._mask = self._mask[:0, :0]
            return
        index = torch.tensor(rows, device=self._mask.device)
        self._mask = self._mask[index]
        unused = int(self._mask.argmax(1).min())
        self._mask = self._mask[:, unused:]
        for layer in _layers(self._cache):
            layer.keys = layer.keys[index, :, unused:]
            layer.values = layer.values[index, :, unused:]


def check_supported(config: PretrainedConfig) -> None:
    """Raises ValueError for models whose state is not a plain list of keys and values."""
    layers = {type(layer) for layer in DynamicCache(config=config).layers}
    others = layers - {DynamicLayer, DynamicSlidingWindowLayer}
    if others:
        names = ", ".join(sorted(layer.__name__ for layer in others))
        raise ValueError(f"models that keep {names} cannot share a batch; choose another model")


def _new_cache() -> DynamicCache:
    # Without the config every layer keeps all positions, and the mask applies sliding windows:
    # layers that drop old positions could not be padded to another row's length.
    return DynamicCache()


def _layers(cache: DynamicCache) -> list[Any]:
    return cache.layers


def _padded(states: torch.Tensor, length: int) -> torch.Tensor:
    """Keys or values (rows, heads, positions, width) with zeros before them up to `length`."""
    return pad(states, (0, 0, length - states.shape[2], 0))
