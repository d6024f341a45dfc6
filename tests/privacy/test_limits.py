"""Limits: the Renyi filter at one order, and what a run costs it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation
from dp_accounting.rdp import RdpAccountant

from privacy.accounting import ORDERS, rdp_to_epsilon
from privacy.budget import BudgetError, BudgetExceededError, Event
from privacy.guarantee import DeltaTerms, View
from privacy.limits import DELTA_RESERVE, Loss, RenyiFilter, Run, Unit
from tests.privacy.runs import CLIENT_PLAN, LIMIT, apply, gaussian_run, opened


@pytest.mark.parametrize(
    ("order", "epsilon", "delta"), [(4, 8.0, 1e-4), (12, 3.0, 1e-6), (64, 0.5, 1e-9)]
)
def test_the_capacity_means_the_limit_according_to_dp_accounting(
    order: int, epsilon: float, delta: float
) -> None:
    limit = RenyiFilter(Unit.NODE, order, epsilon, delta)
    accountant = RdpAccountant([order], NeighboringRelation.REPLACE_SPECIAL)
    accountant.compose(GaussianDpEvent(math.sqrt(order / (2 * limit.capacity))))
    assert accountant.get_epsilon((1 - DELTA_RESERVE) * delta) == pytest.approx(epsilon, rel=1e-12)


@pytest.mark.parametrize("order", [1, 0, -3, 129, 2048])
def test_a_limit_needs_an_accounted_order(order: int) -> None:
    with pytest.raises(ValueError, match="order"):
        RenyiFilter(Unit.NODE, order, 3.0, 1e-6)


def test_the_chosen_order_admits_most_participations() -> None:
    """p=5 of z=4 costs 2.736 at delta=1e-6 at the best order: see the test of two federations."""
    run = Run.of_plan("a", CLIENT_PLAN)
    chosen = RenyiFilter.for_run(run, 2.75, 1e-6)
    assert chosen.unit is Unit.NODE
    assert chosen.admits(run.loss.times(5))
    assert not chosen.admits(run.loss.times(6))
    for order in range(8, 128):
        other = RenyiFilter(Unit.NODE, order, 2.75, 1e-6)
        assert other.capacity / run.loss.rdp[ORDERS.index(order)] <= (
            chosen.capacity / run.loss.rdp[ORDERS.index(chosen.order)]
        )
    with pytest.raises(ValueError, match="no loss is small enough"):
        RenyiFilter.for_run(run, 1e-9, 1e-6)


def test_a_limit_that_no_loss_can_meet_is_refused() -> None:
    with pytest.raises(ValueError, match="higher order"):
        RenyiFilter(Unit.NODE, 2, 3.0, 1e-6)


def test_the_filter_stays_at_its_order_although_another_would_admit_more() -> None:
    limit = RenyiFilter(Unit.SUBJECT, order=64, epsilon=3.0, delta=1e-6)
    run = gaussian_run("a", noise_multiplier=10.0)
    budget = opened(limit)
    rounds = 9
    best, best_order = rdp_to_epsilon(np.asarray(run.loss.times(rounds).rdp), limit.delta)
    assert best < limit.epsilon
    assert best_order != limit.order
    assert rounds * run.loss.rdp[ORDERS.index(64)] > limit.capacity
    assert budget.would_exceed(run, rounds)
    assert not budget.would_exceed(run, rounds - 1)
    with pytest.raises(BudgetExceededError):
        budget.reserve(run, [str(i) for i in range(rounds)])


@pytest.mark.parametrize(
    "changed",
    [
        RenyiFilter(Unit.SUBJECT, order=16, epsilon=3.0, delta=1e-6),
        RenyiFilter(Unit.NODE, order=12, epsilon=3.0, delta=1e-6),
        RenyiFilter(Unit.SUBJECT, order=12, epsilon=3.0, delta=1e-5),
    ],
)
def test_order_unit_and_delta_are_fixed_when_the_log_is_opened(changed: RenyiFilter) -> None:
    budget = opened(LIMIT)
    with pytest.raises(BudgetError, match="fixed"):
        budget.record(Event(1, limit=changed))
    assert budget.limit == LIMIT


def test_epsilon_may_be_lowered_below_what_is_spent() -> None:
    budget = opened(LIMIT)
    run = gaussian_run("a", 5.0)
    apply(budget, budget.reserve(run, ["1", "2"]))
    apply(budget, budget.charge("a", "1"))
    budget.record(budget.change_epsilon(1.1))
    assert budget.limit.epsilon == 1.1
    assert budget.epsilon_spent() > 1.1
    assert budget.would_exceed(run, 0)


def test_failures_have_a_bound_of_their_own() -> None:
    budget = opened(LIMIT)
    failure = DELTA_RESERVE * LIMIT.delta
    assert not budget.would_exceed(gaussian_run("a", 1e6, failure=failure), 1)
    assert budget.would_exceed(gaussian_run("a", 1e6, failure=failure), 2)
    sampler = Run("b", Unit.SUBJECT, 1, Loss((0.0,) * len(ORDERS), DeltaTerms(0.0, 0.0, failure)))
    assert budget.would_exceed(sampler, 1)


def test_a_limit_for_nodes_refuses_runs_that_protect_subjects() -> None:
    nodes = opened(RenyiFilter(Unit.NODE, order=12, epsilon=3.0, delta=1e-6))
    with pytest.raises(BudgetError, match="whole nodes"):
        nodes.would_exceed(gaussian_run("a", 1e6, unit=Unit.SUBJECT), 1)
    subjects = opened(LIMIT)
    apply(subjects, subjects.reserve(gaussian_run("a", 5.0, unit=Unit.NODE), ["1"]))
    apply(subjects, subjects.charge("a", "1"))
    assert subjects.epsilon_spent() > 0


@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0])
def test_a_loss_that_is_not_a_number_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Loss((number,) * len(ORDERS), DeltaTerms(0.0, 0.0, 0.0))


def test_an_owner_who_trusts_nobody_counts_the_loss_of_a_node_alone() -> None:
    """One share of t_min - c = 75: the Renyi divergence is 75 times as large."""
    trusting = Run.of_plan("a", CLIENT_PLAN)
    alone = Run.of_plan("a", CLIENT_PLAN, View.ALONE)
    assert np.asarray(alone.loss.rdp) == pytest.approx(75 * np.asarray(trusting.loss.rdp), rel=1e-6)
