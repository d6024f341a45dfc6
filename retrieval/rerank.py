"""Optional second look: a cross-encoder reads question and passage together."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from retrieval.embedding import EmbedderError


class CrossEncoderReranker:
    """A sentence-transformers cross-encoder by folder or Hugging Face id, on the CPU."""

    def __init__(self, source: str) -> None:
        """Raises EmbedderError where there is no such model."""
        from sentence_transformers import CrossEncoder

        try:
            self._model = CrossEncoder(source, device="cpu", trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise EmbedderError(f"cannot load the reranker {source}: {error}") from error
        self._turn = threading.Lock()

    def __call__(self, question: str, passages: Sequence[str]) -> Sequence[float]:
        """A score for each passage, higher is better."""
        with self._turn:
            scores = self._model.predict(
                [(question, passage) for passage in passages], show_progress_bar=False
            )
        return [float(score) for score in scores]
