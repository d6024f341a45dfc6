"""The query side of a shared retriever adapter: a low-rank change of the question's vector.

q' = normalise(q + q A W), where A (`basis`) is fixed and public and W (`weights`) is trained.
Passages are embedded without it, so a new W never makes a node embed its documents again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from retrieval.embedding import Vectors

# A float32 basis from a QR in float64 is off by less than 1e-6; anything larger is no rounding.
_ORTHONORMAL = 1e-4
_TENSOR = "basis"


@dataclass(frozen=True, eq=False, slots=True)
class QueryMap:
    """A query map that may be served; it keeps read-only copies of what it is given.

    Attributes:
        basis: A, shape (d, r), float32, with orthonormal columns.
        weights: W, shape (r, d), float32; zero maps every vector to itself.

    Raises:
        ValueError: the shapes or types are not as above, a number is not finite, or the columns
            of `basis` are not orthonormal.
    """

    basis: Vectors
    weights: Vectors

    def __post_init__(self) -> None:
        check_basis(self.basis)
        dimension, rank = self.basis.shape
        if self.weights.shape != (rank, dimension) or self.weights.dtype != np.float32:
            raise ValueError(
                f"the weights of a query map on this basis are float32 of shape"
                f" ({rank}, {dimension}), not {self.weights.dtype} of shape {self.weights.shape}"
            )
        if not np.isfinite(self.weights).all():
            raise ValueError("the weights of a query map are finite numbers")
        for name in ("basis", "weights"):
            own = np.array(getattr(self, name), np.float32, order="C")
            own.setflags(write=False)
            object.__setattr__(self, name, own)

    @property
    def dimension(self) -> int:
        """Of the vectors that it maps (d)."""
        return int(self.basis.shape[0])

    def apply(self, vectors: Vectors) -> Vectors:
        """Map unit vectors, shape (n, d), to unit vectors of the same shape, float32.

        A vector that W leaves alone comes back bit for bit.
        """
        questions = vectors.astype(np.float64)
        change = (questions @ self.basis.astype(np.float64)) @ self.weights.astype(np.float64)
        mapped = questions + change
        norms = np.linalg.norm(mapped, axis=1, keepdims=True)
        # A question that the map sends to nothing has no direction but its own.
        moved = change.any(axis=1, keepdims=True) & (norms > 0)
        unit = mapped / np.where(moved, norms, 1.0)
        return np.where(moved, unit, vectors).astype(np.float32)


def random_basis(dimension: int, rank: int, seed: int) -> Vectors:
    """A basis of shape (dimension, rank), float32, whose columns span a uniformly random space.

    From the QR decomposition of a Gaussian matrix. Libraries differ in its last bits and signs,
    so a basis that machines share is made once and shipped (`basis_to_bytes`).

    Raises:
        ValueError: `rank` is not between 1 and `dimension`.
    """
    if not 1 <= rank <= dimension:
        raise ValueError(f"the rank of a query map is between 1 and {dimension}, not {rank}")
    gaussian = np.random.default_rng(seed).standard_normal((dimension, rank))
    return np.linalg.qr(gaussian).Q.astype(np.float32)


def basis_to_bytes(basis: Vectors) -> bytes:
    """The one safetensors file of a basis; its SHA-256 is the basis's identity.

    Raises:
        ValueError: `check_basis` refuses it.
    """
    check_basis(basis)
    return save({_TENSOR: np.ascontiguousarray(basis)})


def basis_from_bytes(data: bytes) -> Vectors:
    """The basis, shape (d, r), that `basis_to_bytes` wrote.

    Raises:
        ValueError: `data` is no safetensors file of a basis, or not the one form of it.
    """
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"no safetensors file of a basis: {error}") from error
    if list(tensors) != [_TENSOR]:
        raise ValueError(f"a basis file holds one tensor, {_TENSOR!r}, not {sorted(tensors)[:8]}")
    basis: Vectors = tensors[_TENSOR]
    if basis_to_bytes(basis) != data:
        raise ValueError("a basis has one file form, and this is another one of the same numbers")
    return basis


def check_basis(basis: NDArray[np.generic]) -> None:
    """Raises ValueError unless `basis` is float32 (d, r), r <= d, with orthonormal columns."""
    if basis.ndim != 2 or basis.dtype != np.float32 or not 1 <= basis.shape[1] <= basis.shape[0]:
        raise ValueError(
            "the basis of a query map is float32 of shape (dimension, rank), rank between 1 and"
            f" dimension, not {basis.dtype} of shape {basis.shape}"
        )
    columns = basis.astype(np.float64)
    off = np.abs(columns.T @ columns - np.eye(basis.shape[1])).max()
    # A comparison with NaN is false, so this refuses what is not finite too.
    if not off <= _ORTHONORMAL:
        raise ValueError(
            f"the columns of a query map's basis are orthonormal; these are off by {off:.2g}"
        )
