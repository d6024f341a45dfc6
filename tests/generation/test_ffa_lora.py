"""What an adapter's vector means, the basis that it stands on, and the folder that it becomes."""

import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load, save

from generation.ffa_lora import AdaptedModule, FfaLora, as_lora, random_basis, read_basis
from privacy.records import from_json, to_json

MODULES = (AdaptedModule("layers.0.q_proj", 8, 6), AdaptedModule("layers.0.v_proj", 12, 3))
SPEC = FfaLora("a-model", MODULES, rank=2, alpha=4)
BASIS = random_basis(MODULES, 2, seed=1)


def test_the_vector_is_each_b_in_turn_row_by_row() -> None:
    assert SPEC.dimension == 2 * (6 + 3)
    factors = SPEC.factors(np.arange(18.0))
    assert factors["layers.0.q_proj"].tolist() == [[2.0 * i, 2.0 * i + 1] for i in range(6)]
    assert factors["layers.0.v_proj"].tolist() == [[12, 13], [14, 15], [16, 17]]


def test_a_clipped_vector_is_a_clipped_update() -> None:
    """||B A||_F = ||B||_F, since A's rows are orthonormal."""
    vector = np.random.default_rng(0).standard_normal(18)
    rows, factors = read_basis(BASIS, SPEC), SPEC.factors(vector)
    updates = [factors[name] @ rows[name] for name in rows]
    norm = np.sqrt(sum((update**2).sum() for update in updates))
    assert norm == pytest.approx(np.linalg.norm(vector), rel=1e-5)


def test_a_seed_gives_one_file_and_another_seed_another() -> None:
    assert random_basis(MODULES, 2, seed=1) == BASIS
    assert random_basis(MODULES, 2, seed=2) != BASIS


def _changed(**tensors: object) -> bytes:
    return save({**load(BASIS), **{name.replace("__", "."): t for name, t in tensors.items()}})


@pytest.mark.parametrize(
    "data",
    [
        b"no file",
        BASIS[:-4],
        random_basis(MODULES, 3, seed=1),
        random_basis(MODULES[:1], 2, seed=1),
        _changed(layers__1__q_proj=np.eye(2, 8, dtype=np.float32)),
        _changed(layers__0__q_proj=np.eye(2, 8)),
        _changed(layers__0__q_proj=np.eye(2, 7, dtype=np.float32)),
        _changed(layers__0__q_proj=np.ones((2, 8), np.float32)),
        _changed(layers__0__q_proj=np.full((2, 8), np.nan, np.float32)),
    ],
)
def test_a_basis_of_another_kind_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="basis"):
        read_basis(data, SPEC)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modules": ()}, "at least one"),
        ({"modules": MODULES[::-1]}, "by name"),
        ({"modules": (MODULES[0], MODULES[0])}, "each once"),
        ({"modules": (AdaptedModule("../q", 8, 6),)}, "dotted name"),
        ({"modules": (AdaptedModule("q", 8, 0),)}, "widths"),
        ({"rank": 0}, "between 1 and 8"),
        ({"rank": 9}, "between 1 and 8"),
        ({"alpha": 0}, "alpha"),
    ],
)
def test_a_senseless_spec_is_refused(changes: dict[str, object], message: str) -> None:
    fields = {"base_model": "a-model", "modules": MODULES, "rank": 2, "alpha": 4}
    with pytest.raises(ValueError, match=message):
        FfaLora(**{**fields, **changes})


@pytest.mark.parametrize("vector", [np.zeros(17), np.full(18, np.nan), np.full(18, 1e39)])
def test_a_vector_that_is_none_makes_no_adapter(vector: np.ndarray) -> None:
    with pytest.raises(ValueError, match="vector"):
        as_lora(SPEC, BASIS, vector)


def test_a_spec_comes_back_from_json() -> None:
    assert from_json(FfaLora, to_json(SPEC)) == SPEC


def test_a_coordinator_needs_no_torch() -> None:
    program = "import sys, generation.ffa_lora; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
