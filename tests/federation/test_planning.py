"""The calculator: the numbers of the plan that would be signed, and the search for a cohort."""

from __future__ import annotations

import pytest

from federation.plan_request import PlanRequest, PlanRequestError, read_request
from federation.planning import needed, privacy_of
from privacy.guarantee import epsilons


def request(**changes: object) -> PlanRequest:
    fields: dict[str, object] = {
        "population": "calculator",
        "federation": "calculator",
        "adapter": {"kind": "retriever", "base_model": "any", "dimension": 1536, "rank": 1},
        "mode": "client",
        "epsilon": 4.0,
        "rounds": 5,
        "cohort": 3,
        "delta": 1e-5,
    }
    return read_request(fields | changes)


def test_the_cohort_found_is_enough_and_one_much_smaller_is_not() -> None:
    found = needed(request(), 0.5)
    plan = privacy_of(found)
    assert plan.noise_to_signal <= 0.5
    assert epsilons(plan).coordinator.value == pytest.approx(4.0, rel=1e-4)
    # Break-even lies at d = (n / z)^2, so that the ratio is z sqrt(d) / n; drop-outs and colluders
    # add some noise (section 0 of Distributed Differential Privacy, arXiv 2102.06387).
    assert plan.noise_multiplier * 1536**0.5 / found.cohort == pytest.approx(0.5, rel=0.15)
    smaller = found.model_copy(update={"cohort": int(found.cohort * 0.95)})
    assert privacy_of(smaller).noise_to_signal > 0.5


def test_in_mode_document_the_subjects_are_sought() -> None:
    asked = request(mode="document", cohort=9, planned_rows=10, sampling_rate=0.1)
    found = needed(asked, 0.5)
    assert found.cohort == 9 and found.planned_rows is not None
    assert privacy_of(found).noise_to_signal <= 0.5
    fewer = found.model_copy(update={"planned_rows": int(found.planned_rows * 0.9)})
    assert privacy_of(fewer).noise_to_signal > 0.5


def test_what_no_cohort_reaches_is_refused() -> None:
    with pytest.raises(PlanRequestError, match="fewer parameters"):
        needed(request(epsilon=0.01), 1e-3)
