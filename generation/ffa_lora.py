"""The shared generator adapter: LoRA whose factor A is fixed and public and only B is trained.

FFA-LoRA (Sun et al., arXiv 2403.12313): with A fixed the update B A is linear in what is trained,
so that the average of nodes' vectors is the average of their updates. A's rows are orthonormal,
which makes the norm of B that of B A: clipping the vector clips the update (scaled by alpha / r).

Nothing here needs torch, so that a coordinator can make a basis and publish an adapter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from generation.adapter_files import Lora

Factors = dict[str, NDArray[np.float32]]

_NAME = re.compile(r"\w+(\.\w+)*")
# A float32 basis from a QR in float64 is off by less than 1e-6; anything larger is no rounding.
_ORTHONORMAL = 1e-4


@dataclass(frozen=True, slots=True)
class AdaptedModule:
    """A linear layer of the model: its dotted name in the causal language model, and its widths."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class FfaLora:
    """What a vector of the generator adapter means; public, and the same at every node.

    The vector is B of each module one after the other, in the order of `modules`, each of shape
    (outputs, rank) and row by row.

    Attributes:
        base_model: the id of the model that the adapter is for.
        modules: the adapted layers, in order of their names.
        rank: r, columns of each B and rows of each A.
        alpha: the update of a layer is alpha / r times B A.

    Raises:
        ValueError: a name or number makes no sense, or the modules are not in order.
    """

    base_model: str
    modules: tuple[AdaptedModule, ...]
    rank: int
    alpha: int

    def __post_init__(self) -> None:
        names = [module.name for module in self.modules]
        if not names or names != sorted(set(names)):
            raise ValueError("the modules of an adapter are at least one, each once, by name")
        for module in self.modules:
            if not _NAME.fullmatch(module.name):
                raise ValueError(f"{module.name!r} is no dotted name of a module")
            if min(module.inputs, module.outputs) < 1:
                raise ValueError(f"{module.name} has no positive widths")
        narrowest = min(module.inputs for module in self.modules)
        if not 1 <= self.rank <= narrowest:
            raise ValueError(f"the rank is between 1 and {narrowest}, not {self.rank}")
        if self.alpha < 1:
            raise ValueError(f"alpha is a positive whole number, not {self.alpha}")

    @property
    def dimension(self) -> int:
        """Coordinates of the vector (d)."""
        return self.rank * sum(module.outputs for module in self.modules)

    def factors(self, vector: NDArray[np.floating]) -> Factors:
        """Each module's B, shape (outputs, r), float32, from a vector of shape (d,).

        Raises:
            ValueError: the shape is another, or a number is not finite in float32.
        """
        if vector.shape != (self.dimension,):
            raise ValueError(
                f"a vector of this adapter has shape ({self.dimension},), not {vector.shape}"
            )
        with np.errstate(over="ignore"):
            values = vector.astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("a vector of an adapter holds finite float32 numbers")
        ends = np.cumsum([self.rank * module.outputs for module in self.modules])
        return {
            module.name: part.reshape(module.outputs, self.rank)
            for module, part in zip(self.modules, np.split(values, ends[:-1]), strict=True)
        }


def random_basis(modules: Sequence[AdaptedModule], rank: int, seed: int) -> bytes:
    """A file of every module's A, each spanning a uniformly random space of its inputs.

    From QR decompositions of Gaussian matrices. Libraries differ in their last bits and signs, so
    the file is made once and shipped; its SHA-256 is the basis's identity.

    Returns:
        A safetensors file: a tensor for each module by its name, shape (rank, inputs), float32.

    Raises:
        ValueError: `rank` is below 1 or above a module's inputs.
    """
    drawn = np.random.default_rng(seed)
    factors: Factors = {}
    for module in modules:
        if not 1 <= rank <= module.inputs:
            raise ValueError(f"the rank for {module.name} is 1 to {module.inputs}, not {rank}")
        gaussian = drawn.standard_normal((module.inputs, rank))
        rows = np.linalg.qr(gaussian).Q.T.astype(np.float32)
        factors[module.name] = np.ascontiguousarray(rows)
    return save(factors)


def read_basis(data: bytes, spec: FfaLora) -> Factors:
    """Each module's A, shape (r, inputs), float32, from a file as `random_basis` makes it.

    Raises:
        ValueError: it is no safetensors file with exactly these tensors, or their rows are not
            orthonormal.
    """
    try:
        factors: Factors = load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"no safetensors file of a basis: {error}") from error
    if sorted(factors) != [module.name for module in spec.modules]:
        raise ValueError(
            f"the basis is for other modules: {len(factors)} tensors, {len(spec.modules)} expected"
        )
    for module in spec.modules:
        rows = factors[module.name]
        if rows.shape != (spec.rank, module.inputs) or rows.dtype != np.float32:
            raise ValueError(
                f"the basis of {module.name} is float32 of shape ({spec.rank}, {module.inputs}),"
                f" not {rows.dtype} of shape {rows.shape}"
            )
        wide = rows.astype(np.float64)
        off = float(np.abs(wide @ wide.T - np.eye(spec.rank)).max())
        # A comparison with NaN is false, so this refuses what is not finite too.
        if not off <= _ORTHONORMAL:
            raise ValueError(f"the rows of {module.name}'s basis are orthonormal, not off by {off}")
    return factors


def as_lora(spec: FfaLora, basis: bytes, vector: NDArray[np.floating]) -> Lora:
    """The adapter that a vector of shape (d,) stands for.

    Raises:
        ValueError: the basis or the vector is not of this spec.
    """
    fixed, trained = read_basis(basis, spec), spec.factors(vector)
    factors = {module.name: (fixed[module.name], trained[module.name]) for module in spec.modules}
    return Lora(spec.base_model, spec.rank, spec.alpha, factors)
