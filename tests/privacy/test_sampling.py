"""The secret sample of subjects. Each statistical test has a false-alarm probability of 10^-7."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy.sampling import sample_rows
from tests.privacy.plans import CLIENT, DOCUMENT, changed

FALSE_ALARM = 1e-7


@given(
    available=st.integers(0, 5000),
    rate=st.floats(1e-6, 1.0),
    row_cap=st.integers(1, 50),
    planned_rows=st.integers(1, 3000),
)
def test_a_sample_is_a_set_of_subjects_within_the_plan(available, rate, row_cap, planned_rows):
    plan = changed(DOCUMENT, sampling_rate=rate, row_cap=row_cap, planned_rows=planned_rows)
    found = sample_rows(available, plan)
    assert len(found) <= row_cap
    assert (np.diff(found) > 0).all()
    assert set(found) <= set(range(min(available, planned_rows)))


@pytest.mark.parametrize("rate", [0.001, 0.25, 0.9])
def test_each_subject_is_taken_independently_at_the_plans_rate(rate):
    plan = changed(DOCUMENT, sampling_rate=rate, row_cap=2000)
    taken = np.zeros(2000)
    together = 0
    for _ in range(500):
        sample = sample_rows(2000, plan)
        taken[sample] += 1
        together += {0, 1} <= set(sample[:2])
    assert stats.binomtest(int(taken.sum()), 500 * 2000, rate).pvalue > FALSE_ALARM
    spread = ((taken - 500 * rate) ** 2).sum() / (500 * rate * (1 - rate))
    assert abs(spread - 2000) < 5.4 * np.sqrt(2 * 2000 * (1 + 1 / (500 * rate * (1 - rate))))
    assert stats.binomtest(together, 500, rate**2).pvalue > FALSE_ALARM


def test_everybody_is_in_every_round_at_rate_one():
    plan = replace(DOCUMENT, sampling_rate=1.0, row_cap=2000)
    assert sample_rows(70, plan).tolist() == list(range(70))


def test_a_cut_spares_everybody_equally():
    plan = changed(DOCUMENT, sampling_rate=0.9, row_cap=3)
    taken = np.zeros(10)
    for _ in range(3000):
        taken[sample_rows(10, plan)] += 1
    assert taken.sum() == 9000
    assert stats.chisquare(taken).pvalue > FALSE_ALARM


def test_nodes_are_never_sampled():
    with pytest.raises(ValueError, match="does not sample"):
        sample_rows(10, CLIENT)
