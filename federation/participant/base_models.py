"""The models that a node runs, as plans name them."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

from federation.adapter_spec import AdapterKind
from retrieval.embedding import Embedder
from storage.settings import PACKAGED, NodeSettings


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model that can be adapted here.

    Attributes:
        source: as the settings name it.
        identity: as plans name it (`AdapterSpec.base_model`).
        dimension: of an embedder's vectors; None for a generator.
    """

    source: str
    identity: str
    dimension: int | None


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
                self._generator = BaseModel(source, generator_identity(source), None)
            return self._generator


def generator_identity(source: str) -> str:
    """The name of a generator with the start of the SHA-256 of its weights.

    Raises:
        OSError, ValueError: its weights are not on this machine.
    """
    from generation.weights import find_model

    files = find_model(None if source == PACKAGED else source)
    folder = Path(files.location)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(files.location, local_files_only=True))
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"{files.model_id}@{digest.hexdigest()[:16]}"
