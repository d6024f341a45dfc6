"""The three epsilons of a plan as its rounds add up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from federation.statement import finite
from privacy.guarantee import View, epsilon_after
from privacy.plan import PrivacyPlan

MOST_POINTS = 40


@dataclass(frozen=True, slots=True)
class CoursePoint:
    """What the first `rounds` rounds of a plan cost, at the plan's delta and its best Renyi order.

    Attributes:
        rounds: how many.
        participations: how many of them count, since no node takes part more often.
        coordinator, release, alone: the epsilons; None where there is no bound.
    """

    rounds: int
    participations: int
    coordinator: float | None
    release: float | None
    alone: float | None


def course(plan: PrivacyPlan, charged: int) -> tuple[CoursePoint, ...]:
    """From no round to all of them, `charged` rounds among the points: at most MOST_POINTS and
    three others."""
    step = max(1, -(-plan.rounds // MOST_POINTS))
    rounds = {*range(0, plan.rounds, step), plan.max_participations, plan.rounds}
    return tuple(_point(plan, count) for count in sorted(rounds | {min(charged, plan.rounds)}))


def _point(plan: PrivacyPlan, rounds: int) -> CoursePoint:
    participations = min(rounds, plan.max_participations)
    return CoursePoint(rounds, participations, *_epsilons(plan, participations))


def _epsilons(plan: PrivacyPlan, participations: int) -> Iterator[float | None]:
    for view in (View.COORDINATOR, View.RELEASE, View.ALONE):
        yield finite(epsilon_after(plan, view, participations)[0]) if participations else 0.0
