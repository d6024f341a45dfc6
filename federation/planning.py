"""The calculator without data: what a plan costs, and how many nodes or subjects one needs."""

from __future__ import annotations

from collections.abc import Callable

from federation.plan_request import (
    LARGEST_COHORT,
    MOST_ROWS,
    PlanRequest,
    PlanRequestError,
    resolve,
)
from privacy.plan import Mode, PrivacyPlan

NOBODY = "0" * 64
"""Stands for the coordinator in a plan that nobody will sign."""


def privacy_of(request: PlanRequest) -> PrivacyPlan:
    """The privacy terms of a request. Raises PlanRequestError as `resolve`."""
    return resolve(request, NOBODY).plan.privacy


def needed(request: PlanRequest, noise_to_signal: float) -> PlanRequest:
    """The request with the fewest nodes, or subjects, whose noise-to-signal is low enough.

    In mode `client` the cohort is sought, otherwise the planned rows of the given cohort. The
    ratio falls with either, since the same epsilon asks for the same noise in a larger sum.

    Args:
        noise_to_signal: largest ratio wanted (`PrivacyPlan.noise_to_signal`); below 1.

    Raises:
        PlanRequestError: no number that a plan may have is enough.
    """
    name = "cohort" if request.mode is Mode.CLIENT else "planned_rows"
    most = LARGEST_COHORT if request.mode is Mode.CLIENT else MOST_ROWS
    least = 3 if request.mode is Mode.CLIENT else 10

    def with_number(number: int) -> PlanRequest:
        return request.model_copy(update={name: number})

    def is_enough(number: int) -> bool:
        try:
            return privacy_of(with_number(number)).noise_to_signal <= noise_to_signal
        except PlanRequestError:
            # So few nodes cannot have that epsilon at all.
            return False

    number = _least(is_enough, least, most)
    if number is None:
        raise PlanRequestError(
            f"no {name} up to {most} brings noise-to-signal to {noise_to_signal:g}: take fewer "
            "parameters, fewer participations or a larger epsilon"
        )
    return with_number(number)


def _least(is_enough: Callable[[int], bool], low: int, most: int) -> int | None:
    """The least number with a property that stays true above it; None if there is none."""
    high = low
    while not is_enough(high):
        if high == most:
            return None
        low, high = high + 1, min(2 * high, most)
    while low < high:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle + 1
    return high
