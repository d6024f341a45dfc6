"""Vectors of public evaluation corpora kept by content hash, so that a repeat takes seconds.

A node's own documents never come here: erasing them would have to find them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pysqlite3.dbapi2 as sqlite

from retrieval.embedding import Vectors


class VectorCache:
    """A file of vectors of one embedder; for one thread."""

    def __init__(self, folder: Path, embedder: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(embedder.encode()).hexdigest()[:16]
        self._connection = sqlite.connect(str(folder / f"{name}.db"))
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS vector (text_hash BLOB PRIMARY KEY, vector BLOB NOT NULL)"
        )

    def vectors(self, texts: Sequence[str], embed: Callable[[list[str]], Vectors]) -> Vectors:
        """Vectors of `texts`, shape (n, dimension); `embed` makes those that are missing."""
        hashes = [hashlib.sha256(text.encode()).digest() for text in texts]
        known = {
            key: row[0]
            for key in set(hashes)
            if (
                row := self._connection.execute(
                    "SELECT vector FROM vector WHERE text_hash = ?", (key,)
                ).fetchone()
            )
        }
        missing = {key: text for key, text in zip(hashes, texts, strict=True) if key not in known}
        made = embed(list(missing.values()))
        fresh = {
            key: vector.astype("<f4").tobytes() for key, vector in zip(missing, made, strict=True)
        }
        self._connection.executemany("INSERT OR REPLACE INTO vector VALUES (?, ?)", fresh.items())
        self._connection.commit()
        known.update(fresh)
        return np.stack([np.frombuffer(known[key], "<f4") for key in hashes]).astype(np.float32)

    def close(self) -> None:
        self._connection.close()
