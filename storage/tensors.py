"""Tensors of a safetensors file that somebody else may have made."""

from __future__ import annotations

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors import SafetensorError

LARGEST_NUMBER = 1e4
"""No adapter needs larger ones, and sums and products of such stay finite."""

_WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}


def read_tensors(data: bytes, largest: int) -> dict[str, NDArray[np.float32]]:
    """All tensors of a file, as float32, which holds float16 and bfloat16 exactly.

    The format has no code in it, unlike pickles (`.bin`, `.pt`), which are not read at all.

    Args:
        largest: bytes that the file may have.

    Raises:
        ValueError: it is larger, no safetensors file, or holds a number of another type, one that
            is not finite or one beyond `LARGEST_NUMBER`.
    """
    if len(data) > largest:
        raise ValueError(f"a file of tensors has at most {largest:,} bytes, not {len(data):,}")
    try:
        found = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ValueError(f"no safetensors file: {error}") from error
    tensors = {}
    for name, tensor in found:
        dtype, shape = str(tensor["dtype"]), tuple(tensor["shape"])
        if dtype not in _WIDTHS:
            raise ValueError(f"tensors are float32, float16 or bfloat16, and {name!r} is {dtype}")
        values = _as_float32(bytes(tensor["data"]), dtype)
        # A comparison with NaN is false, so this refuses what is not finite too.
        if not (np.abs(values) <= LARGEST_NUMBER).all():
            raise ValueError(
                f"{name!r} holds numbers that are not finite, or not within {LARGEST_NUMBER:,.0f}"
            )
        tensors[name] = values.reshape(shape)
    return tensors


def _as_float32(data: bytes, dtype: str) -> NDArray[np.float32]:
    if dtype == "BF16":
        # The upper half of a float32.
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, f"<f{_WIDTHS[dtype]}").astype(np.float32)
