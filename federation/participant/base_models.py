"""The models that a node runs, as plans name them."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from federation.adapter_spec import AdapterKind, AdapterSpec
from generation.ffa_lora import AdaptedModule
from retrieval.embedding import Embedder
from storage.settings import NodeSettings

ADAPTED = ("q_proj", "v_proj")
"""The generator's modules that an adapter is for where nothing else is said, as in the LoRA paper
(arXiv 2106.09685, section 4.2)."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model that can be adapted here.

    Attributes:
        source: as the settings name it.
        identity: as plans name it (`AdapterSpec.base_model`).
        dimension: of an embedder's vectors; None for a generator.
        modules: of a generator that an adapter would be for.
    """

    source: str
    identity: str
    dimension: int | None
    modules: tuple[AdaptedModule, ...] = ()


class BaseModels:
    """What a node can train. Safe in any thread."""

    def __init__(self, settings: NodeSettings, embedder: Embedder) -> None:
        self._settings = settings
        self._embedder = BaseModel(settings.embedder, embedder.identity, embedder.dimension)
        self._generator: BaseModel | None = None
        self._lock = threading.Lock()

    def get(self, kind: AdapterKind) -> BaseModel | None:
        """The model of a kind; None for a generator on another server, which has no adapters.

        The first call for a generator reads its weights, which takes a second.
        """
        if kind is AdapterKind.RETRIEVER:
            return self._embedder
        if self._settings.upstream_url is not None:
            return None
        with self._lock:
            if self._generator is None:
                source = self._settings.generator
                self._generator = BaseModel(
                    source, generator_identity(source), None, generator_modules(source)
                )
            return self._generator

    def refusal(self, adapter: AdapterSpec) -> str | None:
        """Why an adapter cannot be trained here, in a sentence; None if it can."""
        model = self.get(adapter.kind)
        if model is None:
            return f"adapter: this node trains no {adapter.kind}"
        if model.identity != adapter.base_model:
            return (
                f"base_model: the plan says {adapter.base_model}, this node runs {model.identity}"
            )
        return None


def generator_identity(source: str) -> str:
    """The name of a generator with the start of the SHA-256 of its weights.

    Raises:
        OSError, ValueError: its weights are not on this machine.
    """
    name, files = _weights(source)
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"{name}@{digest.hexdigest()[:16]}"


def generator_modules(source: str) -> tuple[AdaptedModule, ...]:
    """The modules called `ADAPTED`, by name; read from the heads of the files of weights.

    Raises:
        OSError, ValueError: its weights are not on this machine.
    """
    ends = tuple(f".{name}.weight" for name in ADAPTED)
    found = []
    for path in _weights(source)[1]:
        with safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                if name.endswith(ends):
                    outputs, inputs = file.get_slice(name).get_shape()
                    found.append(AdaptedModule(name.removesuffix(".weight"), inputs, outputs))
    return tuple(sorted(found, key=lambda module: module.name))


def _weights(source: str) -> tuple[str, list[Path]]:
    """The name of a generator and the files of its weights."""
    from generation.weights import find_model

    files = find_model(source)
    folder = Path(files.location)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(files.location, local_files_only=True))
    return files.model_id, sorted(folder.glob("*.safetensors"))
