"""What an admin says about the adapter of a federation, and the spec and basis file made of it.

Numpy only: the coordinator knows a model by its identity and its shapes and never loads it.
"""

from __future__ import annotations

import base64
import binascii

from pydantic import BaseModel, ConfigDict, Field

from federation.adapter_spec import AdapterKind, AdapterSpec, Block, blob_hash
from generation import ffa_lora
from generation.ffa_lora import AdaptedModule, FfaLora
from retrieval.query_map import basis_from_bytes, basis_to_bytes, random_basis

QUERY_MAP_BLOCK = "weights"
"""Name of W in the spec of a query map."""

LARGEST_SIDE = 65_536
LARGEST_RANK = 256
MOST_PARAMETERS = 2**22
"""Trained ones; the coordinator keeps 20 bytes of each version for each."""

MOST_BASIS_NUMBERS = 2**24
"""Of the fixed factor A, 64 MiB."""

DEFAULT_RANK = 4


class Module(BaseModel):
    """A linear module of the generator that the adapter is added to, by its name in the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_.]+$")
    inputs: int = Field(ge=1, le=LARGEST_SIDE)
    outputs: int = Field(ge=1, le=LARGEST_SIDE)


class AdapterRequest(BaseModel):
    """The adapter of a federation.

    Attributes:
        kind: which model it adapts.
        base_model: identity of that model, as a node prints it.
        dimension: of the retriever's vectors; not needed with `basis`.
        modules: of the generator.
        rank: of the update (r); 4, or for a retriever with `basis` that of the file.
        alpha: of the generator: the update of a module is alpha / r times B A; r, where left out.
        seed: of the random orthonormal basis that is made where none is given.
        basis: the basis file itself (safetensors), base64; from public data only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: AdapterKind
    base_model: str = Field(min_length=1, max_length=500, pattern=r"^[!-~]+$")
    dimension: int | None = Field(default=None, ge=1, le=LARGEST_SIDE)
    modules: tuple[Module, ...] = Field(default=(), max_length=2_000)
    rank: int | None = Field(default=None, ge=1, le=LARGEST_RANK)
    alpha: int | None = Field(default=None, ge=1, le=1_000)
    seed: int | None = Field(default=None, ge=0, lt=2**53)
    basis: str | None = Field(default=None, repr=False)


def resolve_adapter(request: AdapterRequest) -> tuple[AdapterSpec, bytes]:
    """The spec, and the basis file that it names by hash.

    Raises:
        ValueError: the parts do not fit each other.
    """
    if request.basis is not None and request.seed is not None:
        raise ValueError("adapter: give a basis or a seed to make one from, not both")
    _check_size(request)
    if request.kind is AdapterKind.RETRIEVER:
        if request.modules or request.alpha is not None:
            raise ValueError(
                "adapter: modules and alpha belong to a generator; a retriever has a dimension"
            )
        return _query_map(request)
    if request.dimension is not None:
        raise ValueError("adapter: dimension belongs to a retriever; a generator has modules")
    return _ffa_lora(request)


def _check_size(request: AdapterRequest) -> None:
    """Before anything is made: a basis of such a size would keep the coordinator busy for hours."""
    rank = request.rank or DEFAULT_RANK
    wide = request.dimension or 0
    trained = rank * (wide + sum(module.outputs for module in request.modules))
    fixed = rank * (wide + sum(module.inputs for module in request.modules))
    if trained > MOST_PARAMETERS or fixed > MOST_BASIS_NUMBERS:
        raise ValueError(
            f"adapter: {trained} trained and {fixed} fixed numbers are more than the "
            f"{MOST_PARAMETERS} and {MOST_BASIS_NUMBERS} of the largest adapter: take a lower "
            "rank or fewer modules"
        )


def decode_base64(text: str, what: str) -> bytes:
    """The bytes of a field that holds a file.

    Raises:
        ValueError: `text` is not base64 (RFC 4648, section 4).
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{what} is not base64: {error}") from error


def _query_map(request: AdapterRequest) -> tuple[AdapterSpec, bytes]:
    if request.basis is not None:
        data = decode_base64(request.basis, "adapter.basis")
        dimension, rank = basis_from_bytes(data).shape
        for name, given, found in (
            ("dimension", request.dimension, dimension),
            ("rank", request.rank, rank),
        ):
            if given not in (None, found):
                raise ValueError(f"adapter: {name} is {given}, and that of the basis is {found}")
    elif request.dimension is None:
        raise ValueError("adapter: a retriever needs dimension, the length of its vectors")
    else:
        dimension, rank = request.dimension, request.rank or DEFAULT_RANK
        data = basis_to_bytes(random_basis(dimension, rank, request.seed or 0))
    block = Block(QUERY_MAP_BLOCK, rank, dimension)
    return _spec(request, rank, data, (block,), 1.0), data


def _ffa_lora(request: AdapterRequest) -> tuple[AdapterSpec, bytes]:
    """B of each module is trained, outputs x rank; its A, rank x inputs, is in the basis file."""
    if not request.modules:
        raise ValueError("adapter: a generator needs modules, each with name, inputs and outputs")
    modules = tuple(
        AdaptedModule(module.name, module.inputs, module.outputs)
        for module in sorted(request.modules, key=lambda module: module.name)
    )
    rank = request.rank or DEFAULT_RANK
    try:
        lora = FfaLora(request.base_model, modules, rank, request.alpha or rank)
        if request.basis is None:
            data = ffa_lora.random_basis(modules, rank, request.seed or 0)
        else:
            data = decode_base64(request.basis, "the basis")
            ffa_lora.read_basis(data, lora)
    except ValueError as error:
        raise ValueError(f"adapter: {error}") from error
    blocks = tuple(Block(module.name, module.outputs, rank) for module in modules)
    return _spec(request, rank, data, blocks, lora.alpha / rank), data


def _spec(
    request: AdapterRequest, rank: int, basis: bytes, blocks: tuple[Block, ...], scale: float
) -> AdapterSpec:
    return AdapterSpec(
        kind=request.kind,
        base_model=request.base_model,
        rank=rank,
        scale=scale,
        basis_hash=blob_hash(basis),
        blocks=blocks,
    )
