"""What the training process is given and what it sends back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from generation.adapter_files import Lora
from generation.weights import ModelFiles
from retrieval.embedding import Vectors
from retrieval.personal_examples import PersonalExample


@dataclass(frozen=True, eq=False, slots=True)
class MapTask:
    """Train a personal query map.

    Attributes:
        embedder: as the node's settings name it.
        passages: the assistant's, which `examples` name by their rows.
        basis: A, shape (d, r); `shared`: the shared W, shape (r, d), None if there is none.
    """

    embedder: str
    passages: tuple[str, ...] = field(repr=False)
    examples: tuple[PersonalExample, ...] = field(repr=False)
    basis: Vectors = field(repr=False)
    shared: Vectors | None = field(repr=False)


@dataclass(frozen=True, eq=False, slots=True)
class LoraTask:
    """Train a personal LoRA; the examples of fold 0 are held back.

    Attributes:
        files: the generator.
        passages, examples: as in `MapTask`; every example has an answer.
        shared: what is active beside it.
        seed: draws the start.
    """

    files: ModelFiles
    passages: tuple[str, ...] = field(repr=False)
    examples: tuple[PersonalExample, ...] = field(repr=False)
    shared: Lora | None
    seed: int


Task = MapTask | LoraTask


@dataclass(frozen=True, slots=True)
class Progress:
    """Steps done of how many."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Trained:
    """An adapter.

    Attributes:
        parameters: a safetensors file.
        config: what else belongs to it, as JSON.
        before, after: see `PersonalVersion`.
    """

    parameters: bytes = field(repr=False)
    config: dict[str, Any]
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing was trained, and why."""

    reason: str


Message = Progress | Trained | Failed
