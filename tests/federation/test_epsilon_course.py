"""How the three epsilons grow with the rounds of a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from federation.epsilon_course import MOST_POINTS, course
from federation.plan import FederationPlan
from federation.statement import guarantees
from tests.federation.plans import client_plan, document_plan


@pytest.mark.parametrize("plan", [client_plan(), document_plan()], ids=["client", "document"])
def test_each_point_is_the_promise_of_a_plan_of_so_many_rounds(plan: FederationPlan) -> None:
    points = course(plan.privacy, charged=0)
    for point in points[1 :: len(points) // 3]:
        shorter = replace(
            plan.privacy, rounds=point.rounds, max_participations=point.participations
        )
        promised = [guarantee.epsilon for guarantee in guarantees(shorter)]
        assert [point.coordinator, point.release, point.alone] == promised


def test_rounds_above_the_permitted_participations_cost_nothing() -> None:
    plan = replace(client_plan().privacy, rounds=30, max_participations=7)
    points = {point.rounds: point for point in course(plan, charged=0)}
    assert points[6].coordinator < points[7].coordinator == points[30].coordinator  # type: ignore[operator]
    assert points[30].participations == 7


def test_a_long_plan_has_few_points_and_the_charged_round_among_them() -> None:
    plan = replace(client_plan().privacy, rounds=997, max_participations=501)
    rounds = [point.rounds for point in course(plan, charged=123)]
    assert rounds == sorted(set(rounds)) and len(rounds) <= MOST_POINTS + 3
    assert {0, 123, 501, 997} <= set(rounds)
