"""A query map through its files, and what is none."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from safetensors.numpy import load, save

from retrieval.query_map import QueryMap, random_basis
from retrieval.query_map_files import SPEC_FILE, TENSORS_FILE, query_map_files, read_query_map

Files = dict[str, bytes]
WEIGHTS = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
MAP = QueryMap(random_basis(8, 3, seed=1), WEIGHTS)


def test_a_query_map_comes_back_and_says_what_it_is() -> None:
    files = query_map_files(MAP, "an-embedder")
    found = read_query_map(files, "an-embedder")
    assert np.array_equal(found.basis, MAP.basis)
    assert np.array_equal(found.weights, MAP.weights)
    spec = json.loads(files[SPEC_FILE])
    assert (spec["dimension"], spec["rank"], spec["embedder"]) == (8, 3, "an-embedder")
    # By its formula alone, as another program would use it.
    tensors = load(files[TENSORS_FILE])
    question = np.eye(8, dtype=np.float32)[:1]
    mapped = question + question @ tensors["basis"] @ tensors["weights"]
    mapped /= np.linalg.norm(mapped)
    np.testing.assert_allclose(found.apply(question), mapped, rtol=1e-5, atol=1e-6)


def _spec(**changes: object) -> Callable[[Files], Files]:
    return lambda files: {
        **files, SPEC_FILE: json.dumps({**json.loads(files[SPEC_FILE]), **changes}).encode()
    }  # fmt: skip


def _tensors(**changes: np.ndarray) -> Callable[[Files], Files]:
    return lambda files: {**files, TENSORS_FILE: save({**load(files[TENSORS_FILE]), **changes})}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: {SPEC_FILE: f[SPEC_FILE]}, "no others"),
        (lambda f: {**f, SPEC_FILE: bytes(100_000)}, "at most"),
        (lambda f: {**f, SPEC_FILE: b"\xff"}, "no JSON"),
        (lambda f: {**f, SPEC_FILE: b"[]"}, "of the format"),
        (_spec(version=2), "of the format"),
        (_spec(embedder="another"), "for the embedder 'another'"),
        (_spec(rank=4), "not as the spec says"),
        (_tensors(weights=WEIGHTS[:2].copy()), "float32 of shape"),
        (_tensors(weights=np.full_like(WEIGHTS, np.nan)), "not finite"),
        (_tensors(basis=2 * MAP.basis), "orthonormal"),
        (_tensors(more=WEIGHTS), "basis and weights"),
    ],
)
def test_anything_else_is_refused(spoil: Callable[[Files], Files], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_query_map(spoil(query_map_files(MAP, "an-embedder")), "an-embedder")
