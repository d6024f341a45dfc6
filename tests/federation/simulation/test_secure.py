"""Secure aggregation in memory gives the plain sum of those who did not fall silent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.secagg import Reason, Refusal
from federation.simulation.secure import secure_sum
from tests.federation.plans import client_plan

PLAN = client_plan(cohort=6, min_survivors=3, colluders=0, max_participations=None, epsilon=8.0)
SIZE = PLAN.privacy.dimension


@settings(max_examples=10)
@given(st.integers(3, 6), st.data(), st.integers(0, 2**32 - 1))
def test_the_sum_is_the_plain_sum_of_the_survivors(
    joined: int, data: st.DataObject, seed: int
) -> None:
    survivors = data.draw(st.sets(st.integers(0, joined - 1), min_size=3))
    chance = np.random.default_rng(seed)
    # Negative numbers wrap around, as those of an encoder do.
    vectors = {
        node: chance.integers(-5000, 5000, SIZE).astype(np.uint32) for node in sorted(survivors)
    }
    plain = sum(vector.astype(object) for vector in vectors.values()) % 2**32
    opened = secure_sum(PLAN, 7, joined, vectors)
    assert opened.dtype == np.uint32 and opened.shape == (SIZE,)
    assert opened.tolist() == plain.tolist()


def test_nothing_is_opened_of_too_few() -> None:
    vectors = {node: np.ones(SIZE, np.uint32) for node in (1, 4)}
    with pytest.raises(Refusal) as refused:
        secure_sum(PLAN, 1, 6, vectors)
    assert refused.value.reason is Reason.TOO_FEW_SURVIVORS
