"""The limit of a new population, from what an admin says."""

from __future__ import annotations

from dataclasses import replace

from federation.plan import FederationPlan
from privacy.accounting import ORDERS
from privacy.guarantee import DeltaTerms
from privacy.limits import Loss, RenyiFilter, Run, Unit


class LimitError(ValueError):
    """No such limit can be kept; the message says why."""


def choose_limit(
    unit: Unit,
    epsilon: float,
    delta: float,
    *,
    order: int | None = None,
    plan: FederationPlan | None = None,
) -> RenyiFilter:
    """The limit at `order`, or at the order that admits `plan` most often.

    Without either, the order that is best for noise that no sampling amplifies, whose divergence
    is proportional to the order. The choice must rest on public things only.

    Raises:
        LimitError: both are given, the plan says nothing about the unit, or no order can mean it.
    """
    try:
        if order is not None:
            if plan is not None:
                raise ValueError("give an order or a plan to choose it for, not both")
            return RenyiFilter(unit, order, epsilon, delta)
        run = _proportional(unit) if plan is None else plan.run
        if (unit, run.unit) == (Unit.NODE, Unit.SUBJECT):
            raise ValueError("the plan protects subjects, which is no bound for a whole node")
        return RenyiFilter.for_run(replace(run, unit=unit), epsilon, delta)
    except ValueError as error:
        raise LimitError(str(error)) from error


def _proportional(unit: Unit) -> Run:
    loss = Loss(tuple(float(order) for order in ORDERS), DeltaTerms(0.0, 0.0, 0.0))
    return Run("any", unit, 1, loss)
