"""The dense index: exact search, changes, and snapshots that are believed only when they fit."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from retrieval.embedding import Vectors
from retrieval.index import Ids, IndexKind, VectorIndex
from tests.nodes import files_holding, unit_vectors

DIMENSION = 16
KINDS: list[IndexKind] = ["flat", "fp16"]


def open_index(
    folder: Path, kind: IndexKind = "flat", embedder: str = "e", dimension: int = DIMENSION
) -> VectorIndex:
    return VectorIndex(folder, embedder, dimension, kind)


def ids(*values: int) -> Ids:
    return np.array(values, np.int64)


def filled(folder: Path, n: int = 20, kind: IndexKind = "flat") -> tuple[VectorIndex, Vectors]:
    """An index of ids 0 to n - 1."""
    index = open_index(folder, kind)
    vectors = unit_vectors(np.random.default_rng(7), n, DIMENSION)
    index.add(np.arange(n), vectors)
    return index, vectors


def generations(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("gen-*"))


def found(index: VectorIndex, query: Vectors, k: int, allowed: Ids | None = None) -> list[int]:
    return [i for i, _ in index.search(query[None], k, allowed)[0]]


class TestSearch:
    @pytest.mark.parametrize("k", [1, 5, 20, 1000])
    def test_flat_equals_numpy(self, tmp_path: Path, k: int) -> None:
        index, vectors = filled(tmp_path)
        queries = unit_vectors(np.random.default_rng(8), 7, DIMENSION)
        for query, hits in zip(queries, index.search(queries, k), strict=True):
            cosines = vectors.astype(np.float64) @ query.astype(np.float64)
            best = np.argsort(-cosines)[:k]
            assert [i for i, _ in hits] == best.tolist()
            np.testing.assert_allclose([score for _, score in hits], cosines[best], atol=1e-6)

    def test_fp16_is_within_its_rounding(self, tmp_path: Path) -> None:
        index, vectors = filled(tmp_path, 200, "fp16")
        queries = unit_vectors(np.random.default_rng(8), 20, DIMENSION)
        for query, hits in zip(queries, index.search(queries, 200), strict=True):
            # Each component is rounded by at most 2^-11 of itself (IEEE 754 binary16), so a
            # cosine by at most 2^-11 * |q| . |v| <= 2^-11.
            for i, score in hits:
                assert abs(score - float(vectors[i] @ query)) <= 2**-11 + 1e-6
            assert len(hits) == 200

    def test_only_allowed_ids_are_found(self, tmp_path: Path) -> None:
        index, vectors = filled(tmp_path)
        allowed = ids(3, 5, 8, 13)
        assert sorted(found(index, vectors[0], 10, allowed)) == [3, 5, 8, 13]
        nearest = max(allowed.tolist(), key=lambda i: float(vectors[i] @ vectors[0]))
        assert found(index, vectors[0], 1, allowed) == [nearest]

    def test_ids_that_are_not_held_allow_nothing(self, tmp_path: Path) -> None:
        index, vectors = filled(tmp_path)
        assert found(index, vectors[0], 10, ids(100, -1, 2**40)) == []
        assert found(index, vectors[0], 10, ids()) == []
        assert found(index, vectors[0], 10, ids(2, 100)) == [2]

    def test_an_empty_index_finds_nothing(self, tmp_path: Path) -> None:
        index = open_index(tmp_path)
        queries = unit_vectors(np.random.default_rng(0), 3, DIMENSION)
        assert index.search(queries, 5) == [[], [], []]
        assert index.search(queries[:0], 5) == []


class TestChanges:
    def test_an_id_is_held_once(self, tmp_path: Path) -> None:
        index, vectors = filled(tmp_path)
        for again in (ids(100, 4), ids(100, 100)):
            with pytest.raises(ValueError, match="already"):
                index.add(again, vectors[:2])
        assert index.ids().tolist() == list(range(20))
        index.snapshot()
        with pytest.raises(ValueError, match="already"):
            open_index(tmp_path).add(ids(19), vectors[:1])

    def test_higher_ids_are_not_compared_with_all_that_are_held(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index, vectors = filled(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(VectorIndex, "ids", None)
            index.add(ids(20, 22), vectors[:2])
        with pytest.raises(ValueError, match="already"):
            index.add(ids(20), vectors[:1])
        index.add(ids(21), vectors[:1])
        assert index.ids().tolist() == list(range(23))

    @pytest.mark.parametrize("shape", [(2, DIMENSION - 1), (3, DIMENSION), (DIMENSION,)])
    def test_other_shapes_are_refused(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        index = open_index(tmp_path)
        with pytest.raises(ValueError, match="vectors for 2 ids"):
            index.add(ids(1, 2), np.zeros(shape, np.float32))
        assert len(index) == 0

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_removed_vector_is_found_no_more(self, tmp_path: Path, kind: IndexKind) -> None:
        index, vectors = filled(tmp_path, kind=kind)
        assert index.remove(ids(4, 9, 4, 77)) == 2
        assert len(index) == 18
        assert index.remove(ids(4)) == 0
        assert not {4, 9} & set(found(index, vectors[4], 20))
        index.add(ids(4), -vectors[4:5])
        assert found(index, vectors[4], 20)[-1] == 4


class TestSnapshots:
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_next_start_has_what_was_saved(self, tmp_path: Path, kind: IndexKind) -> None:
        index, vectors = filled(tmp_path, kind=kind)
        index.remove(ids(3))
        index.snapshot()
        assert index.unsaved_changes == 0
        again = open_index(tmp_path, kind)
        assert again.ids().tolist() == [i for i in range(20) if i != 3]
        assert again.search(vectors, 20) == index.search(vectors, 20)
        again.add(ids(3), vectors[3:4])
        assert found(again, vectors[3], 1) == [3]

    def test_it_says_what_it_is(self, tmp_path: Path) -> None:
        index, _ = filled(tmp_path)
        index.snapshot()
        generation = tmp_path / (tmp_path / "CURRENT").read_text()
        digest = hashlib.sha256((generation / "index.faiss").read_bytes()).hexdigest()
        assert json.loads((generation / "manifest.json").read_text()) == {
            "format": 1,
            "faiss": faiss.__version__,
            "kind": "flat",
            "embedder": "e",
            "dimension": DIMENSION,
            "vectors": 20,
            "sha256": digest,
        }

    def test_only_the_last_stays_and_numbers_ascend(self, tmp_path: Path) -> None:
        index, vectors = filled(tmp_path)
        names = []
        for i in range(4):
            index.add(ids(100 + i), vectors[i : i + 1])
            index.snapshot()
            names += generations(tmp_path)
        assert names == ["gen-000001", "gen-000002", "gen-000003", "gen-000004"]

    def test_a_removed_vector_is_in_no_file(self, tmp_path: Path) -> None:
        for kind in KINDS:
            folder = tmp_path / kind
            index, vectors = filled(folder, kind=kind)
            index.snapshot()
            half = vectors.astype(np.float16)
            stored = vectors if kind == "flat" else half
            gone, kept = stored[5].tobytes(), stored[6].tobytes()
            assert files_holding(folder, [gone])
            index.remove(ids(5))
            index.snapshot()
            assert not files_holding(folder, [gone])
            assert files_holding(folder, [kept])

    def test_forgetting_leaves_no_file_and_loses_nothing_in_memory(self, tmp_path: Path) -> None:
        index, vectors = filled(tmp_path)
        assert index.forget_snapshots() == 0
        index.snapshot()
        assert index.forget_snapshots() == 1
        assert list(tmp_path.iterdir()) == []
        assert index.unsaved_changes > 0  # so that it is saved again
        assert found(index, vectors[2], 1) == [2]
        assert len(open_index(tmp_path)) == 0

    def test_files_are_the_owners_alone(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            index, _ = filled(tmp_path / "index")
            index.snapshot()
        finally:
            os.umask(before)
        for path in (tmp_path / "index", *(tmp_path / "index").rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path

    def test_one_that_fails_is_made_again_and_harms_nothing(self, tmp_path: Path) -> None:
        index, vectors = filled(tmp_path)
        index.snapshot()
        index.add(ids(50), vectors[:1])
        (tmp_path / "CURRENT.tmp").mkdir()  # what the last step writes to
        with pytest.raises(IsADirectoryError):
            index.snapshot()
        assert index.unsaved_changes == 1
        assert len(open_index(tmp_path)) == 20
        (tmp_path / "CURRENT.tmp").rmdir()
        index.snapshot()
        assert len(open_index(tmp_path)) == 21
        assert len(generations(tmp_path)) == 1


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "gen-000001" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def truncate(folder: Path) -> None:
    file = folder / "gen-000001" / "index.faiss"
    file.write_bytes(file.read_bytes()[:-1])


def flip_one_bit(folder: Path) -> None:
    file = folder / "gen-000001" / "index.faiss"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def another_kind_of_index(folder: Path) -> None:
    """A sound FAISS file with a fitting hash that is not what we write."""
    file = folder / "gen-000001" / "index.faiss"
    flat = faiss.IndexFlatIP(DIMENSION)
    flat.add(unit_vectors(np.random.default_rng(1), 20, DIMENSION))
    faiss.write_index(flat, str(file))
    edit_manifest(folder, sha256=hashlib.sha256(file.read_bytes()).hexdigest())


def no_index_at_all(folder: Path) -> None:
    file = folder / "gen-000001" / "index.faiss"
    file.write_bytes(b"IxM2" + bytes(100))
    edit_manifest(folder, sha256=hashlib.sha256(file.read_bytes()).hexdigest())


def index_is_a_folder(folder: Path) -> None:
    (folder / "gen-000001" / "index.faiss").unlink()
    (folder / "gen-000001" / "index.faiss").mkdir()


def another_index_beside(folder: Path) -> None:
    """CURRENT that leads out of the folder, to an index of somebody else."""
    other = folder.parent / "other"
    filled(other)[0].snapshot()
    (folder / "CURRENT").write_text("../other/gen-000001")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "one byte short": truncate,
    "one bit different": flip_one_bit,
    "an empty index": lambda f: (f / "gen-000001" / "index.faiss").write_bytes(b""),
    "no index": lambda f: (f / "gen-000001" / "index.faiss").unlink(),
    "a folder as index": index_is_a_folder,
    "another kind of index": another_kind_of_index,
    "bytes that are no index": no_index_at_all,
    "no manifest": lambda f: (f / "gen-000001" / "manifest.json").unlink(),
    "a manifest of nothing": lambda f: (f / "gen-000001" / "manifest.json").write_bytes(b""),
    "a manifest that is a list": lambda f: (f / "gen-000001" / "manifest.json").write_text("[]"),
    "a manifest that is no text": lambda f: (f / "gen-000001" / "manifest.json").write_bytes(
        b"\xff\xfe"
    ),
    "a manifest with another field": lambda f: edit_manifest(f, extra=1),
    "another count": lambda f: edit_manifest(f, vectors=19),
    "another format": lambda f: edit_manifest(f, format=2),
    "another hash": lambda f: edit_manifest(f, sha256="0" * 64),
    "CURRENT of nothing": lambda f: (f / "CURRENT").write_bytes(b""),
    "CURRENT that is no text": lambda f: (f / "CURRENT").write_bytes(b"\xff\xfe"),
    "CURRENT of a missing generation": lambda f: (f / "CURRENT").write_text("gen-000009"),
    "CURRENT that leads elsewhere": another_index_beside,
    "no CURRENT": lambda f: (f / "CURRENT").unlink(),
}


class TestDamage:
    @pytest.mark.parametrize("what", DAMAGE)
    def test_a_damaged_snapshot_counts_as_none(self, tmp_path: Path, what: str) -> None:
        folder = tmp_path / "index"
        index, vectors = filled(folder)
        index.snapshot()
        DAMAGE[what](folder)
        again = open_index(folder)
        assert len(again) == 0  # never a part of it
        assert generations(folder) == []
        again.add(np.arange(20), vectors)
        again.snapshot()
        assert len(open_index(folder)) == 20

    @pytest.mark.parametrize(
        "other",
        [{"embedder": "f"}, {"dimension": 8}, {"kind": "fp16"}],
        ids=lambda o: next(iter(o)),
    )
    def test_a_snapshot_of_another_index_counts_as_none(
        self, tmp_path: Path, other: dict[str, Any]
    ) -> None:
        filled(tmp_path)[0].snapshot()
        assert len(open_index(tmp_path, **other)) == 0
        assert generations(tmp_path) == []

    def test_what_a_kill_left_is_removed_and_not_in_the_way(self, tmp_path: Path) -> None:
        index, vectors = filled(tmp_path)
        index.snapshot()
        for name in ("gen-000002", "gen-000002.tmp", "gen-000007.tmp"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "index.faiss").write_bytes(vectors.tobytes())
        (tmp_path / "gen-notes.txt").touch()
        again = open_index(tmp_path)
        assert len(again) == 20
        assert generations(tmp_path) == ["gen-000001"]
        for _ in range(3):
            again.snapshot()
        assert len(open_index(tmp_path)) == 20


def test_searching_beside_changes_and_snapshots_is_consistent(tmp_path: Path) -> None:
    index, vectors = filled(tmp_path, 400)
    stable = np.arange(200)  # never touched by the writer
    failures: list[str] = []
    done = threading.Event()

    def search(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not done.is_set():
            i = int(rng.integers(200))
            everywhere = index.search(vectors[i : i + 1], 400)[0]
            if everywhere[0][0] != i or abs(everywhere[0][1] - 1) > 1e-5:
                failures.append(f"{i} did not find itself: {everywhere[:2]}")
            if len({found for found, _ in everywhere}) != len(everywhere):
                failures.append("an id twice")
            among = {found for found, _ in index.search(vectors[i : i + 1], 400, stable)[0]}
            if among != set(range(200)):
                failures.append(f"{200 - len(among)} of the untouched are missing")

    searchers = [threading.Thread(target=search, args=(seed,)) for seed in range(3)]
    for thread in searchers:
        thread.start()
    rng = np.random.default_rng(99)
    for step in range(60):
        some = rng.choice(np.arange(200, 400), 20, replace=False)
        index.remove(some)
        index.add(some, vectors[some])
        if step % 10 == 0:
            index.snapshot()
    done.set()
    for thread in searchers:
        thread.join()
    assert failures == []
    assert open_index(tmp_path).ids().tolist() == list(range(400))
