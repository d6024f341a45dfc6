"""What a plan promises, and what it refuses to promise."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy.plan import CUT_PROBABILITY, Mode, smallest_row_cap
from tests.privacy.plans import CLIENT, DOCUMENT, LOCAL


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mode": "client"}, "mode must be one of"),
        ({"dimension": 0}, "dimension must be a positive whole number"),
        ({"dimension": 4096.0}, "dimension must be a positive whole number"),
        ({"cohort": True}, "cohort must be a positive whole number"),
        ({"colluders": -1}, "colluders must be a whole number"),
        ({"clip_norm": 0.0}, "clip_norm must be a positive number"),
        ({"clip_norm": math.nan}, "clip_norm must be a positive number"),
        ({"grid": math.inf}, "grid must be a positive number"),
        ({"grid": 1e-300}, "take a coarser grid"),
        ({"noise_multiplier": -1.0}, "noise_multiplier must be a positive number"),
        ({"noise_multiplier": "2"}, "noise_multiplier must be a positive number"),
        ({"delta": 0.0}, "delta must be a positive number"),
        ({"delta": 0.011}, r"delta 0.011 is above 1/cohort = 0.01"),
        ({"min_survivors": 101}, "only 100 nodes are invited"),
        ({"min_survivors": 10}, "min_survivors must exceed colluders"),
        ({"colluders": 80}, "min_survivors must exceed colluders"),
        ({"max_participations": 21}, "only 20 rounds"),
        ({"sampling_rate": 0.5}, "sampling nodes is not secret and amplifies nothing"),
        ({"row_cap": 1}, "mode client takes"),
        ({"planned_rows": 100}, "mode client takes"),
        ({"noise_multiplier": 0.002}, "needs 2.0: take a finer grid or more noise"),
        ({"grid": 1 / 640_000_000}, "take a coarser grid"),
        ({"noise_multiplier": 1e6}, "take a coarser grid"),
    ],
)
def test_senseless_client_plans_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        replace(CLIENT, **change)


@pytest.mark.parametrize("plan", [DOCUMENT, LOCAL])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"row_cap": None}, "needs row_cap and planned_rows"),
        ({"planned_rows": None}, "needs row_cap and planned_rows"),
        ({"sampling_rate": 1.01}, r"must lie in \(0, 1\]"),
        ({"row_cap": 20}, "need a cap of at least"),
        ({"delta": 6e-4}, "above 1/planned_rows = 0.0005"),
        ({"row_cap": 1_000_000}, "take a coarser grid"),
    ],
)
def test_senseless_plans_for_subjects_are_refused(plan, change, reason):
    with pytest.raises(ValueError, match=reason):
        replace(plan, **change)


def test_sensitivity_of_a_million_coordinates():
    # Theorem 1 of 2102.06387 with gamma = C / (100 sqrt d): exactly one per cent above C / gamma.
    plan = replace(CLIENT, dimension=2**20, grid=1 / 102_400)
    assert plan.sensitivity_squared == 103_424**2
    assert plan.sensitivity == 103_424


def test_shares_are_sized_for_honest_survivors():
    # sqrt(n / (t_min - c)) = sqrt(1000 / 850) is the overhead in standard deviation.
    plan = replace(CLIENT, cohort=1000, min_survivors=900, colluders=50)
    overhead = plan.share_sigma * math.sqrt(plan.cohort) / plan.sigma
    assert overhead == pytest.approx(1.085, abs=5e-4)
    assert (plan.min_survivors - plan.colluders) * plan.share_sigma**2 == pytest.approx(
        (plan.noise_multiplier * plan.sensitivity) ** 2
    )


def test_each_node_of_a_local_plan_adds_all_the_noise():
    assert LOCAL.share_sigma == LOCAL.sigma == LOCAL.noise_multiplier * LOCAL.sensitivity


def test_divisors_are_public_expectations():
    assert CLIENT.divisor == 100
    assert DOCUMENT.divisor == 0.01 * 2000


@pytest.mark.parametrize(("cohort", "z", "even"), [(50, 1, 2500), (1000, 4, 62_500)])
def test_noise_and_signal_break_even(cohort, z, even):
    # z C sqrt(d) / n = C at d = (n/z)^2, here up to one per cent of rounding.
    plan = replace(
        CLIENT,
        dimension=even,
        grid=1 / (100 * math.sqrt(even)),
        noise_multiplier=float(z),
        cohort=cohort,
        min_survivors=cohort,
        colluders=0,
        delta=1e-6,
    )
    assert plan.noise_to_signal == pytest.approx(1.01, rel=1e-6)


@given(
    planned_rows=st.integers(1, 10**7),
    rate=st.floats(1e-7, 1.0),
)
def test_smallest_row_cap_is_rarely_reached_by_the_others(planned_rows, rate):
    cap = smallest_row_cap(planned_rows, rate)
    assert 1 <= cap <= planned_rows
    assert stats.binom.sf(cap - 1, planned_rows - 1, rate) <= CUT_PROBABILITY


@pytest.mark.parametrize("rate", [1e-4, 0.02, 0.5])
def test_smallest_row_cap_is_not_wasteful(rate):
    exact = stats.binom.isf(CUT_PROBABILITY, 49_999, rate) + 1
    assert smallest_row_cap(50_000, rate) <= 1.02 * exact + 3


def test_everybody_in_every_round_needs_no_cut():
    assert smallest_row_cap(300, 1.0) == 300
    assert replace(DOCUMENT, sampling_rate=1.0, row_cap=2000).divisor == 2000


def test_modes_are_named_as_in_the_protocol():
    assert [mode.value for mode in Mode] == ["client", "document", "local"]
