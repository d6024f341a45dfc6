"""The server's step against the formulas of Reddi et al. (arXiv 2003.00295) and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from federation.optimiser import OptimiserState, step
from federation.plan import Optimiser, OptimiserName

RNG = np.random.default_rng(5)
DIRECTIONS = [RNG.normal(size=6) for _ in range(8)]
START = RNG.normal(size=6).astype(np.float32)


def walk(optimiser: Optimiser) -> np.ndarray:
    vector, state = START, OptimiserState.zero(6)
    for direction in DIRECTIONS:
        vector, state = step(optimiser, state, vector, direction)
    return vector


def test_fedavg_without_momentum_adds_the_mean() -> None:
    moved = walk(Optimiser(OptimiserName.FEDAVG, learning_rate=0.5))
    np.testing.assert_allclose(moved, START + 0.5 * np.sum(DIRECTIONS, axis=0), rtol=1e-5)


def test_fedavg_with_momentum_is_torch_s_sgd_with_dampening() -> None:
    # Algorithm 2's first moment, (1 - beta1) * direction; torch starts from the first gradient
    # itself, so its buffer is given the zero start by a first step with no gradient.
    moved = walk(Optimiser(OptimiserName.FEDAVG, learning_rate=0.5, beta1=0.9))
    parameter = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    sgd = torch.optim.SGD([parameter], lr=0.5, momentum=0.9, dampening=0.9)
    for direction in [np.zeros(6), *DIRECTIONS]:
        parameter.grad = torch.tensor(-direction)
        sgd.step()
    np.testing.assert_allclose(moved, parameter.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_fedadam_is_torch_s_adam_where_bias_correction_has_died_out() -> None:
    # FedAdam corrects no bias (Algorithm 2). From moments that are far from their start, with the
    # step counter at infinity, torch's Adam is the same.
    optimiser = Optimiser(
        OptimiserName.FEDADAM, learning_rate=0.1, beta1=0.9, beta2=0.99, adaptivity=1e-3
    )
    first, second = RNG.normal(size=6), RNG.random(6)
    moved, state = step(optimiser, OptimiserState(first, second), START, DIRECTIONS[0])
    parameter = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([parameter], lr=0.1, betas=(0.9, 0.99), eps=1e-3)
    adam.state[parameter] = {
        "step": torch.tensor(1e9),
        "exp_avg": torch.tensor(-first),
        "exp_avg_sq": torch.tensor(second),
    }
    parameter.grad = torch.tensor(-DIRECTIONS[0])
    adam.step()
    np.testing.assert_allclose(moved, parameter.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.first, -adam.state[parameter]["exp_avg"].numpy())
    np.testing.assert_allclose(state.second, adam.state[parameter]["exp_avg_sq"].numpy())


def test_fedadam_follows_algorithm_2_over_several_rounds() -> None:
    moved = walk(
        Optimiser(OptimiserName.FEDADAM, learning_rate=0.1, beta1=0.8, beta2=0.9, adaptivity=0.01)
    )
    # Written out as closed sums: m_t = (1 - b1) sum b1^(t-i) d_i, v_t likewise with d_i squared.
    expected = START.astype(np.float64)
    for t in range(1, len(DIRECTIONS) + 1):
        m = 0.2 * sum(0.8 ** (t - i) * DIRECTIONS[i - 1] for i in range(1, t + 1))
        v = 0.1 * sum(0.9 ** (t - i) * DIRECTIONS[i - 1] ** 2 for i in range(1, t + 1))
        expected = expected + 0.1 * m / (np.sqrt(v) + 0.01)
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-6)


def test_moments_come_back_bit_for_bit() -> None:
    state = OptimiserState(RNG.normal(size=6), RNG.random(6))
    data = state.to_bytes()
    again = OptimiserState.from_bytes(data, 6)
    assert np.array_equal(again.first, state.first) and np.array_equal(again.second, state.second)
    assert "0." not in repr(state)
    for wrong in (data[:-1], data + b"\0", b""):
        with pytest.raises(ValueError, match="no moments of 6"):
            OptimiserState.from_bytes(wrong, 6)


def test_no_direction_leaves_the_vector_where_it_is() -> None:
    for name in OptimiserName:
        moved, _ = step(Optimiser(name, 0.1), OptimiserState.zero(6), START, np.zeros(6))
        assert np.array_equal(moved, START) and moved.dtype == np.float32
