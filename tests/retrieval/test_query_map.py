"""The query map against its formula, the one form of a basis, and the map in a running search."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import pytest
from safetensors.numpy import save

from retrieval.embedding import Embedder, Vectors
from retrieval.query_map import QueryMap, basis_from_bytes, basis_to_bytes, random_basis
from tests.nodes import new_document, unit_vectors
from tests.retrieval.conftest import MakeShelf, Shelf

D, R = 24, 5
TEXTS = [
    "The library opens at nine and closes at six.",
    "The swimming pool is heated in winter.",
    "Members of the rowing club meet at the river.",
    "Dogs must be kept on a lead in the park.",
    "The fountain in the park was built by a sculptor.",
]
QUESTION = "When is the library open?"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def make_map(rng: np.random.Generator, dimension: int = D, scale: float = 1.0) -> QueryMap:
    weights = (scale * rng.standard_normal((R, dimension))).astype(np.float32)
    return QueryMap(random_basis(dimension, R, 1), weights)


class TestFormula:
    def test_one_vector_at_a_time_in_plain_arithmetic(self, rng: np.random.Generator) -> None:
        made, questions = make_map(rng), unit_vectors(rng, 7, D)
        for question, mapped in zip(questions, made.apply(questions), strict=True):
            coordinates = [float(question @ made.basis[:, k]) for k in range(R)]
            moved = question + sum(c * made.weights[k] for k, c in enumerate(coordinates))
            np.testing.assert_allclose(mapped, moved / np.sqrt((moved**2).sum()), atol=1e-6)

    def test_zero_weights_change_no_bit(self, rng: np.random.Generator) -> None:
        questions = unit_vectors(rng, 50, D)
        zero = QueryMap(random_basis(D, R, 1), np.zeros((R, D), np.float32))
        assert zero.apply(questions).tobytes() == questions.tobytes()

    def test_no_weights_make_a_vector_that_is_not_a_unit(self, rng: np.random.Generator) -> None:
        """Not even float32's largest, nor weights that send a question to exactly nothing."""
        questions = unit_vectors(rng, 20, D)
        for scale in (1e-30, 1.0, 1e37):
            mapped = make_map(rng, scale=scale).apply(questions)
            np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-6)
        basis = np.eye(D, R, dtype=np.float32)
        nothing = QueryMap(basis, -basis.T.copy())
        assert nothing.apply(basis.T.copy()).tobytes() == basis.T.copy().tobytes()

    def test_it_keeps_its_own_numbers(self, rng: np.random.Generator) -> None:
        basis, weights = random_basis(D, R, 1), np.zeros((R, D), np.float32)
        made = QueryMap(basis, weights)
        weights[:] = 1
        assert not made.weights.any()
        with pytest.raises(ValueError, match="read-only"):
            made.weights[0, 0] = 1


def _with(array: Vectors, value: float) -> Vectors:
    changed = array.copy()
    changed[0, 0] = value
    return changed


BASIS, ZERO = random_basis(D, R, 1), np.zeros((R, D), np.float32)


@pytest.mark.parametrize(
    ("basis", "weights", "message"),
    [
        (BASIS, ZERO.T, r"shape \(5, 24\), not float32 of shape \(24, 5\)"),
        (BASIS, ZERO.astype(np.float64), "not float64"),
        (BASIS, _with(ZERO, np.nan), "finite"),
        (BASIS, _with(ZERO, np.inf), "finite"),
        (BASIS.T, ZERO, "rank between 1 and dimension"),
        (BASIS[:, 0], ZERO, r"shape \(24,\)"),
        (BASIS.astype(np.float64), ZERO, "not float64"),
        (BASIS * np.float32(1.01), ZERO, "orthonormal"),
        (np.repeat(BASIS[:, :1], R, axis=1), ZERO, "orthonormal"),
        (_with(BASIS, np.nan), ZERO, "orthonormal"),
    ],
)
def test_what_is_no_map_is_refused(basis: Vectors, weights: Vectors, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QueryMap(basis, weights)


class TestBasis:
    @pytest.mark.parametrize(("dimension", "rank"), [(384, 64), (5, 5), (1, 1)])
    def test_columns_are_orthonormal(self, dimension: int, rank: int) -> None:
        basis = random_basis(dimension, rank, 3)
        np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=2e-6)

    @pytest.mark.parametrize("rank", [0, -1, 6])
    def test_a_rank_that_cannot_be_is_refused(self, rank: int) -> None:
        with pytest.raises(ValueError, match="between 1 and 5"):
            random_basis(5, rank, 0)

    def test_the_same_numbers_are_the_same_file(self) -> None:
        """Whatever their order in memory; the layout is the format's own description of it."""
        basis = random_basis(D, R, 3)
        data = basis_to_bytes(basis)
        assert basis_to_bytes(np.asfortranarray(basis)) == data
        assert basis_from_bytes(data).tobytes() == basis.tobytes()
        header = b'{"basis":{"dtype":"F32","shape":[24,5],"data_offsets":[0,480]}}'
        padded = header + b" " * (-len(header) % 8)
        assert data == len(padded).to_bytes(8, "little") + padded + basis.tobytes()
        other = hashlib.sha256(basis_to_bytes(random_basis(D, R, 4)))
        assert other.digest() != hashlib.sha256(data).digest()

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"not a file",
            save({"other": BASIS}),
            save({"basis": BASIS, "more": BASIS}),
            save({"basis": BASIS}, metadata={"format": "np"}),
            save({"basis": BASIS.astype(np.float64)}),
            save({"basis": 2 * BASIS}),
            basis_to_bytes(BASIS)[:-1],
            basis_to_bytes(BASIS) + b"\0",
        ],
    )
    def test_any_other_file_is_refused(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="basis"):
            basis_from_bytes(data)


@pytest.fixture(scope="module")
def shelf(make_shelf: MakeShelf) -> Shelf:
    made = make_shelf()
    made.assistant("town", *(new_document([text]) for text in TEXTS))
    return made


class TestSearch:
    def test_a_map_changes_the_ranking_and_none_restores_it(
        self, shelf: Shelf, embedder: Embedder, rng: np.random.Generator
    ) -> None:
        def ranked() -> list[tuple[str, float]]:
            hits = shelf.searcher.search(1, QUESTION, k=10, mode="dense")
            return [(hit.text, hit.dense) for hit in hits]

        before = ranked()
        made = make_map(rng, embedder.dimension)
        shelf.searcher.set_query_map(made)
        question = embedder.questions([QUESTION])
        moved = question + question @ made.basis @ made.weights
        cosines = embedder.passages(TEXTS) @ (moved / np.linalg.norm(moved))[0]
        order = np.argsort(-cosines)
        after = ranked()
        assert [text for text, _ in after] == [TEXTS[i] for i in order]
        np.testing.assert_allclose([score for _, score in after], cosines[order], atol=1e-5)
        assert [text for text, _ in after] != [text for text, _ in before]
        shelf.searcher.set_query_map(None)
        assert ranked() == before

    def test_a_swap_under_way_gives_the_old_ranking_or_the_new(
        self, shelf: Shelf, embedder: Embedder, rng: np.random.Generator
    ) -> None:
        def scores() -> tuple[float, ...]:
            hits = shelf.searcher.search(1, QUESTION, k=10, mode="dense")
            return tuple(round(hit.dense, 4) for hit in hits)

        plain = scores()
        made = make_map(rng, embedder.dimension)
        shelf.searcher.set_query_map(made)
        mapped = scores()
        done = threading.Event()

        def swap() -> None:
            while not done.is_set():
                shelf.searcher.set_query_map(None)
                shelf.searcher.set_query_map(made)

        swapping = threading.Thread(target=swap)
        swapping.start()
        try:
            seen = {scores() for _ in range(20)}
        finally:
            done.set()
            swapping.join()
            shelf.searcher.set_query_map(None)
        assert seen <= {plain, mapped}

    def test_a_map_for_another_embedder_is_refused(
        self, shelf: Shelf, rng: np.random.Generator
    ) -> None:
        with pytest.raises(ValueError, match="24 numbers"):
            shelf.searcher.set_query_map(make_map(rng))
