"""The dense index of one assistant: FAISS in memory, snapshots of it in atomic generations.

The database is the truth. A snapshot only spares a start the reading of every vector; it is
believed when its manifest fits, brought up to date from the database, and else rebuilt.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.embedding import Vectors
from storage.files import remove, sync, write_private

Ids = NDArray[np.int64]
IndexKind = Literal["flat", "fp16"]
FORMAT = 1
GENERATION = re.compile(r"gen-([0-9]{6,18})")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot claims; every field must fit before it is read."""

    format: int
    faiss: str
    kind: str
    embedder: str
    dimension: int
    vectors: int
    sha256: str


class VectorIndex:
    """Inner products of unit vectors (cosines) by exhaustive search, exact up to `kind`.

    `flat` keeps float32 and is exact; `fp16` halves the memory at 2^-11 relative precision.
    A search may run beside everything else and takes turns with other searches; the caller
    serialises `add`, `remove`, `snapshot` and `forget_snapshots` among themselves.
    """

    def __init__(self, folder: Path, embedder: str, dimension: int, kind: IndexKind) -> None:
        self._folder = folder
        self._embedder = embedder
        self._dimension = dimension
        self._kind = kind
        self._index = _empty(dimension, kind)
        # FAISS allows no search beside a change.
        self._guard = threading.Lock()
        self.unsaved_changes = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._load()
        self._highest = int(self.ids().max(initial=-1))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def ids(self) -> Ids:
        """The ids it holds, ascending, shape (len(self),)."""
        with self._guard:
            held = faiss.vector_to_array(self._index.id_map).astype(np.int64)
        return np.sort(held)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add unit vectors, shape (n, dimension), under new ids, shape (n,).

        Raises:
            ValueError: the shapes do not fit or an id is held already.
        """
        if vectors.shape != (len(ids), self._dimension):
            raise ValueError(f"{vectors.shape} vectors for {len(ids)} ids of {self._dimension}")
        if len(ids) == 0:
            return
        # New ids are higher than all that were, save where a rebuild fills a gap.
        held = self.ids() if ids.min() <= self._highest else ids[:0]
        if np.isin(ids, held).any() or len(np.unique(ids)) != len(ids):
            raise ValueError("an id is in the index already")
        with self._guard:
            self._index.add_with_ids(vectors, ids)
        self._highest = max(self._highest, int(ids.max()))
        self.unsaved_changes += len(ids)

    def remove(self, ids: Ids) -> int:
        """Remove ids and their vectors from memory; returns how many were held."""
        if len(ids) == 0:
            return 0
        with self._guard:
            removed = int(self._index.remove_ids(np.ascontiguousarray(ids)))
        self.unsaved_changes += removed
        return removed

    def search(
        self, queries: Vectors, k: int, allowed: Ids | None = None
    ) -> list[list[tuple[int, float]]]:
        """The `k` nearest of `allowed` (None: of all) for each query, shape (n, dimension).

        Returns for each query (id, cosine), best first; fewer than `k` where fewer are held.
        """
        # A selector is swapped inside its parameters during a search, so each call has its own.
        parameters = None
        if allowed is not None:
            selector = faiss.IDSelectorBatch(np.ascontiguousarray(allowed))
            parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        with self._guard:
            k = min(k, len(self) if allowed is None else len(allowed))
            if k == 0:
                return [[] for _ in queries]
            scores, ids = self._index.search(queries, k, params=parameters)
        return [
            [(int(i), float(score)) for i, score in zip(row_ids, row, strict=True) if i >= 0]
            for row_ids, row in zip(ids, scores, strict=True)
        ]

    def snapshot(self) -> None:
        """Write a new generation, make it current, remove all others. Durable on return."""
        last = max((_number(path) for path in self._generations()), default=0)
        target = self._folder / f"gen-{last + 1:06d}"
        partial = target.with_suffix(".tmp")
        partial.mkdir(mode=0o700)
        file = partial / "index.faiss"
        file.touch(mode=0o600)
        faiss.write_index(self._index, str(file))
        manifest = Manifest(
            format=FORMAT,
            faiss=faiss.__version__,
            kind=self._kind,
            embedder=self._embedder,
            dimension=self._dimension,
            vectors=len(self),
            sha256=_sha256(file),
        )
        sync(file)
        write_private(partial / "manifest.json", json.dumps(asdict(manifest)).encode())
        sync(partial)
        partial.rename(target)
        sync(self._folder)
        write_private(self._folder / "CURRENT", target.name.encode())
        self.unsaved_changes = 0
        self._remove_generations(keep=target.name)

    def forget_snapshots(self) -> int:
        """Remove every generation from disk; returns how many there were.

        The vectors of an erased document stand in older generations; without any, the next
        start rebuilds from the database.
        """
        (self._folder / "CURRENT").unlink(missing_ok=True)
        sync(self._folder)
        self.unsaved_changes = max(self.unsaved_changes, 1)
        return self._remove_generations(keep=None)

    def destroy(self) -> None:
        """Remove the folder with all its files; no snapshot can be made after it."""
        remove(self._folder)

    def _load(self) -> None:
        name = self._current()
        # A killed snapshot leaves its folder: it is in the way of the next one and may hold
        # vectors that were erased since.
        self._remove_generations(keep=name)
        if name is None:
            return
        index = self._read(self._folder / name)
        if index is None:
            self.forget_snapshots()
        else:
            self._index = index

    def _current(self) -> str | None:
        """The generation that is said to be current, if what says so is in order."""
        try:
            name = (self._folder / "CURRENT").read_text()
        except (OSError, UnicodeDecodeError):
            return None
        return name if GENERATION.fullmatch(name) else None

    def _read(self, generation: Path) -> Any | None:
        """The index of a generation, or None where anything about it does not fit."""
        file = generation / "index.faiss"
        try:
            manifest = Manifest(**json.loads((generation / "manifest.json").read_bytes()))
            expected = (FORMAT, self._kind, self._embedder, self._dimension, _sha256(file))
        except (OSError, ValueError, TypeError):
            return None
        if expected != (
            manifest.format, manifest.kind, manifest.embedder, manifest.dimension, manifest.sha256,
        ):  # fmt: skip
            return None
        try:
            index = faiss.read_index(str(file))
        except RuntimeError:  # written by another version of FAISS
            return None
        # It has its own type already; `downcast_index` would give one that does not keep it alive.
        fits = isinstance(index, faiss.IndexIDMap2) and index.d == self._dimension
        return index if fits and index.ntotal == manifest.vectors else None

    def _generations(self) -> list[Path]:
        return sorted(self._folder.glob("gen-*"))

    def _remove_generations(self, keep: str | None) -> int:
        doomed = [path for path in self._generations() if path.name != keep]
        for path in doomed:
            remove(path)
        sync(self._folder)
        return len(doomed)


def _empty(dimension: int, kind: IndexKind) -> Any:
    codes: faiss.Index
    if kind == "fp16":
        codes = faiss.IndexScalarQuantizer(
            dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
    else:
        codes = faiss.IndexFlatIP(dimension)
    return faiss.IndexIDMap2(codes)


def _number(generation: Path) -> int:
    """The number in its name; 0 for what is no name of a generation."""
    found = GENERATION.match(generation.name)
    return int(found[1]) if found else 0


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
