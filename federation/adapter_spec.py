"""The trained parameters of an adapter as one vector, and back, by a spec that plans are bound to.

Only the trained factor is in the vector: W of the query map (rank x dimension), or B of FFA-LoRA
(arXiv 2403.12313, out x rank for each adapted module). The fixed factor A is shipped beside the
plan and pinned by its hash.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from federation.secagg.config import LARGEST_DIMENSION
from federation.signed import record_hash
from privacy.signing import Domain, check_hash, digest


class AdapterKind(StrEnum):
    """Which model of a node the adapter belongs to."""

    RETRIEVER = "retriever"
    GENERATOR = "generator"


@dataclass(frozen=True, slots=True)
class Block:
    """One trained matrix; blocks follow each other in the vector, each in row-major order."""

    name: str
    rows: int
    columns: int

    def __post_init__(self) -> None:
        if not self.name or min(self.rows, self.columns) < 1:
            raise ValueError("a block has a name and at least one row and one column")


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """What the vector of a federation means.

    Attributes:
        kind: which model it adapts.
        base_model: the identity of that model: `Embedder.identity`, or the generator's weights
            hash; another model makes the parameters meaningless.
        rank: of the update (r).
        scale: what the update is multiplied by (alpha / r); 1 for the query map.
        basis_hash: SHA-256 of the file with the fixed factor A.
        blocks: the trained matrices, in the order of the vector.

    Raises:
        ValueError: the spec contradicts itself.
    """

    kind: AdapterKind
    base_model: str
    rank: int
    scale: float
    basis_hash: str
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        check_hash(self.basis_hash)
        if not self.blocks or len({block.name for block in self.blocks}) != len(self.blocks):
            raise ValueError("an adapter has at least one block, and no two of the same name")
        if self.rank < 1 or any(self.rank not in (b.rows, b.columns) for b in self.blocks):
            raise ValueError(f"each block has a side of the rank, {self.rank}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale must be a positive number, not {self.scale}")
        if self.dimension > LARGEST_DIMENSION:
            raise ValueError(
                f"{self.dimension} parameters are more than the {LARGEST_DIMENSION} of a round"
            )

    @property
    def dimension(self) -> int:
        """Number of trained parameters (d)."""
        return sum(block.rows * block.columns for block in self.blocks)

    @property
    def hash(self) -> str:
        """SHA-256 of the spec, 64 hexadecimal digits."""
        return record_hash(self, Domain.ADAPTER_SPEC)

    def to_vector(self, matrices: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """The matrices as one vector, shape (d,), float32.

        Raises:
            ValueError: the matrices are not those of the spec.
        """
        if matrices.keys() != {block.name for block in self.blocks}:
            raise ValueError("the matrices are not those of the adapter's spec")
        for block in self.blocks:
            if matrices[block.name].shape != (block.rows, block.columns):
                raise ValueError(f"{block.name} must have shape ({block.rows}, {block.columns})")
        parts = [matrices[block.name].astype(np.float32).ravel() for block in self.blocks]
        return np.concatenate(parts)

    def to_matrices(self, vector: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The blocks of a vector of shape (d,), as views of it.

        Raises:
            ValueError: the vector does not fit the spec.
        """
        if vector.shape != (self.dimension,):
            raise ValueError(f"the vector must have shape ({self.dimension},), not {vector.shape}")
        matrices, start = {}, 0
        for block in self.blocks:
            end = start + block.rows * block.columns
            matrices[block.name] = vector[start:end].reshape(block.rows, block.columns)
            start = end
        return matrices


def blob_hash(data: bytes) -> str:
    """SHA-256 of a file that a plan names, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def parameters_to_bytes(vector: NDArray[np.float32]) -> bytes:
    """The only form in which parameters are stored, sent and hashed: float32, little-endian."""
    return vector.astype("<f4").tobytes()


def parameters_from_bytes(data: bytes, spec: AdapterSpec) -> NDArray[np.float32]:
    """The vector, shape (d,).

    Raises:
        ValueError: the bytes are not d finite numbers.
    """
    if len(data) != 4 * spec.dimension:
        raise ValueError(f"{len(data)} bytes are not {spec.dimension} float32 parameters")
    vector = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValueError("the parameters are not all finite numbers")
    return vector


def parameters_hash(data: bytes) -> str:
    """The hash by which parameters are named in plans, versions and ledgers."""
    return digest(Domain.PARAMETERS, data)
