"""A vector means what its spec says, and nothing else passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from federation.adapter_spec import (
    AdapterKind,
    AdapterSpec,
    Block,
    parameters_from_bytes,
    parameters_hash,
    parameters_to_bytes,
)
from tests.privacy.ledger_factory import hex_hash

SPEC = AdapterSpec(
    AdapterKind.GENERATOR, "tiny-lm", 2, 0.5, hex_hash("A"), (Block("b", 3, 2), Block("a", 2, 2))
)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(hnp.arrays(np.float32, SPEC.dimension, elements=FLOATS))
def test_a_vector_comes_back_through_its_matrices_and_its_bytes(vector: Any) -> None:
    matrices = SPEC.to_matrices(vector)
    assert {name: matrix.shape for name, matrix in matrices.items()} == {"b": (3, 2), "a": (2, 2)}
    assert np.array_equal(SPEC.to_vector(matrices), vector)
    assert np.array_equal(parameters_from_bytes(parameters_to_bytes(vector), SPEC), vector)


def test_blocks_follow_each_other_in_the_spec_s_order_row_by_row() -> None:
    matrices = SPEC.to_matrices(np.arange(10, dtype=np.float32))
    assert matrices["b"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert matrices["a"].tolist() == [[6, 7], [8, 9]]


def test_parameters_are_little_endian_float32() -> None:
    # IEEE 754: 1.0 is 0x3f800000.
    assert parameters_to_bytes(np.array([1.0], np.float32)) == bytes.fromhex("0000803f")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_parameters_are_finite(value: float) -> None:
    data = parameters_to_bytes(np.full(10, value, np.float32))
    with pytest.raises(ValueError, match="finite"):
        parameters_from_bytes(data, SPEC)


@pytest.mark.parametrize("length", [0, 39, 41, 80])
def test_parameters_have_the_spec_s_length(length: int) -> None:
    with pytest.raises(ValueError, match="are not 10 float32"):
        parameters_from_bytes(bytes(length), SPEC)


def test_other_matrices_and_vectors_do_not_fit() -> None:
    matrices = SPEC.to_matrices(np.zeros(10, np.float32))
    with pytest.raises(ValueError, match="not those of"):
        SPEC.to_vector({"b": matrices["b"]})
    with pytest.raises(ValueError, match=r"shape \(3, 2\)"):
        SPEC.to_vector(matrices | {"b": matrices["b"].T})
    with pytest.raises(ValueError, match=r"shape \(10,\)"):
        SPEC.to_matrices(np.zeros(11, np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": ()}, "at least one block"),
        ({"blocks": (Block("a", 2, 2), Block("a", 3, 2))}, "same name"),
        ({"rank": 5}, "side of the rank"),
        ({"rank": 0}, "side of the rank"),
        ({"scale": 0.0}, "positive"),
        ({"scale": float("nan")}, "positive"),
        ({"basis_hash": "ABC"}, "hexadecimal"),
        ({"blocks": (Block("a", 2, 2**28),)}, "more than"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **changes)


def test_the_hash_covers_everything() -> None:
    others = [
        SPEC,
        replace(SPEC, base_model="other"),
        replace(SPEC, basis_hash=hex_hash("B")),
        replace(SPEC, scale=1.0),
        replace(SPEC, blocks=SPEC.blocks[::-1]),
    ]
    assert len({spec.hash for spec in others}) == len(others)
    # Domains keep the hash of a vector apart from a plain SHA-256 of its bytes.
    assert parameters_hash(b"") != hex_hash("")
