"""The encoder: what leaves it, what can never stop it, and what comes back.

Each statistical test raises a false alarm with probability 10^-7.
"""

import math
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from privacy.encoding import RoundingSecret, decode, encode, quantise
from privacy.plan import PrivacyPlan
from tests.privacy.plans import CLIENT, DOCUMENT, LOCAL

FALSE_ALARM = 1e-7
SMALL = replace(CLIENT, dimension=8, grid=1 / 283, noise_multiplier=5.0)
NOT_A_NUMBER = (math.nan, math.inf, -math.inf)


def squared_norm(row: np.ndarray) -> int:
    return sum(int(x) ** 2 for x in row)


def row_of(dimension: int, norm: float, seed: int = 1) -> np.ndarray:
    direction = np.random.default_rng(seed).normal(size=dimension)
    return direction * (norm / np.linalg.norm(direction))


ANY_DTYPE = st.one_of(
    hnp.floating_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.complex_number_dtypes(),
    hnp.boolean_dtypes(),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
    hnp.unicode_string_dtypes(max_len=4),
    st.just(np.dtype(np.longdouble)),
    st.just(np.dtype([("a", "f8"), ("b", "i4")])),
)


@settings(deadline=None, max_examples=300)
@given(row=ANY_DTYPE.flatmap(lambda dtype: hnp.arrays(dtype, 8)), row_id=st.binary(max_size=8))
def test_no_values_of_any_type_stop_the_encoder_or_exceed_the_norm(row, row_id):
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        integers = quantise(row, row_id, SMALL, RoundingSecret.fresh())
    assert integers.dtype == np.int64
    assert squared_norm(integers) <= SMALL.sensitivity_squared


EXTREMES = st.sampled_from(
    [0.0, -0.0, 5e-324, -5e-324, 2.2e-308, 1e-160, 1.0, -1.0, 1e154, 1e200, 1.7e308, -1.7e308]
) | st.sampled_from([*NOT_A_NUMBER, 1 / 283, 0.5 / 283, math.nextafter(1.0, 2)])


@settings(deadline=None, max_examples=300)
@given(
    row=hnp.arrays(np.float64, 8, elements=EXTREMES | st.floats(allow_subnormal=True)),
    clip_norm=st.floats(1e-3, 1e3),
    inflation=st.floats(1, 1e4),
)
def test_extreme_values_are_clipped_or_zeroed(row, clip_norm, inflation):
    plan = replace(SMALL, clip_norm=clip_norm, grid=clip_norm / (inflation * math.sqrt(8)))
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        integers = quantise(row, b"row", plan, RoundingSecret.fresh())
    assert squared_norm(integers) <= plan.sensitivity_squared
    if not np.isfinite(row).all() or not row.any():
        assert not integers.any()


@pytest.mark.parametrize(
    "row",
    [
        np.array([object()] * 8, dtype=object),
        np.array([10**400] * 8, dtype=object),
        np.array(["1.0"] * 8),
        np.full(8, 1 + 1j),
        np.ma.masked_array(np.ones(8), mask=[True] * 8),
    ],
)
def test_odd_arrays_are_handled_too(row):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        integers = quantise(row, b"row", SMALL, RoundingSecret.fresh())
    assert squared_norm(integers) <= SMALL.sensitivity_squared


@pytest.mark.parametrize("value", [2.0**16, 2.0**31, 2.0**32, 2.0**53, 2.0**63, 1e200, 1e308])
def test_integer_check_does_not_rest_on_the_clip(value):
    # With the clip out of the way, squares or casts that wrapped around could look short.
    unclipped = tight(SMALL.sensitivity_squared)
    object.__setattr__(unclipped, "clip_norm", math.inf)
    object.__setattr__(unclipped, "grid", 1.0)
    rounded = quantise(np.full(8, value), b"row", unclipped, RoundingSecret.fresh())
    assert squared_norm(rounded) <= SMALL.sensitivity_squared


@pytest.mark.parametrize("bad", NOT_A_NUMBER)
def test_one_bad_value_makes_the_whole_row_zero(bad):
    row = row_of(8, 0.5)
    row[3] = bad
    assert not quantise(row, b"row", SMALL, RoundingSecret.fresh()).any()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6, 1e160, 1e300])
def test_long_rows_keep_their_direction_and_get_the_clip_norm(scale):
    plan = replace(CLIENT, grid=1e-6)
    row = row_of(4096, 1.0)
    found = quantise(row * scale, b"row", plan, RoundingSecret.fresh()) * plan.grid
    expected = row * min(scale, plan.clip_norm)
    assert np.abs(found - expected).max() < plan.grid


def test_single_precision_rows_are_clipped_in_double():
    # In float32 the squares of these values are infinite.
    row = np.full(4096, 3e38, dtype=np.float32)
    found = quantise(row, b"row", CLIENT, RoundingSecret.fresh()) * CLIENT.grid
    assert found == pytest.approx(np.full(4096, 1 / 64), abs=CLIENT.grid)


class Tight(PrivacyPlan):
    """A plan whose bound the rounding of an honest row exceeds, as no plan's bound should."""

    bound = SMALL.sensitivity_squared

    @property
    def sensitivity_squared(self) -> int:
        return self.bound


def tight(bound: int) -> PrivacyPlan:
    names = PrivacyPlan.__dataclass_fields__
    plan = Tight(**{name: getattr(SMALL, name) for name in names})
    object.__setattr__(plan, "bound", bound)
    return plan


def test_integer_norm_is_held_to_the_bound_exactly():
    secret = RoundingSecret.fresh()
    row = row_of(8, 1.0)
    free = quantise(row, b"row", SMALL, secret)
    norm = squared_norm(free)
    assert norm > 0
    assert (quantise(row, b"row", tight(norm), secret) == free).all()
    assert not quantise(row, b"row", tight(norm - 1), secret).any()


def test_rounding_up_happens_as_often_as_the_fraction_says():
    # 2^20 coins at each fraction; the whole part never changes.
    dimension = 2**20
    plan = replace(CLIENT, dimension=dimension, grid=1.0, clip_norm=1e6)
    for fraction in (0.0, 0.1, 0.5, 0.999):
        row = np.full(dimension, fraction - 3)
        rounded = quantise(row, b"row", plan, RoundingSecret.fresh())
        ups = int((rounded == -2).sum())
        assert set(np.unique(rounded)) <= {-3, -2}
        chance = float(row[0] + 3)
        assert stats.binomtest(ups, dimension, chance).pvalue > FALSE_ALARM


def test_rounding_is_unbiased():
    row = row_of(64, 0.7)
    plan = replace(CLIENT, dimension=64, grid=1 / 20)
    repeats = 4000
    sums = sum(quantise(row, b"row", plan, RoundingSecret.fresh()) for _ in range(repeats))
    scaled = row / plan.grid
    fraction = scaled - np.floor(scaled)
    variance = repeats * fraction * (1 - fraction)
    z = (sums - repeats * scaled) / np.sqrt(variance)
    assert stats.chi2.sf((z**2).sum(), 64) > FALSE_ALARM


def test_erasing_one_subject_leaves_every_other_row_as_it_was():
    secret = RoundingSecret.fresh()
    rows = {b"subject %d" % i: row_of(4096, 0.3, seed=i) for i in range(6)}
    encoding = partial(quantise, plan=DOCUMENT, secret=secret)
    before = {i: encoding(row, i) for i, row in rows.items()}
    del rows[b"subject 2"]
    after = {i: encoding(row, i) for i, row in reversed(rows.items())}
    assert len(after) == 5
    for row_id, encoded in after.items():
        assert (encoded == before[row_id]).all()


def test_rows_and_encodings_do_not_share_coins():
    row = row_of(4096, 0.3)
    secret = RoundingSecret.fresh()
    first = quantise(row, b"a", DOCUMENT, secret)
    assert (quantise(row, b"a", DOCUMENT, secret) == first).all()
    assert (quantise(row, b"b", DOCUMENT, secret) != first).any()
    assert (quantise(row, b"a", DOCUMENT, RoundingSecret.fresh()) != first).any()


@pytest.mark.parametrize("plan", [CLIENT, DOCUMENT, LOCAL])
@pytest.mark.parametrize("rows", [0, 1])
def test_noise_of_one_node_is_its_share_and_nothing_else(plan, rows):
    # The variance of d residues is chi-square about the share's, plus the rounding's 1/4 at most.
    row = row_of(4096, plan.clip_norm / 2)
    vector = encode([(b"row", row)] * rows, plan).astype(np.int32).astype(float)
    noise = vector - rows * row / plan.grid
    total = (noise**2).sum() / plan.share_sigma**2
    assert stats.chi2.sf(total, 4096) > FALSE_ALARM / 2
    assert stats.chi2.cdf(total, 4096) > FALSE_ALARM / 2


def test_decoded_sum_of_a_cohort_is_the_mean_up_to_noise():
    plan = replace(CLIENT, cohort=20, min_survivors=20, colluders=0, noise_multiplier=0.05)
    updates = [row_of(4096, 0.9, seed=i) for i in range(20)]
    total = np.zeros(4096, dtype=np.uint32)
    for i, update in enumerate(updates):
        total += encode([(b"node %d" % i, update)], plan)
    error = (decode(total, plan) - np.mean(updates, axis=0)) * plan.divisor / plan.grid
    variance = 20 * plan.share_sigma**2
    # Rounding adds at most a quarter a row to the variance of each coordinate.
    assert stats.chi2.sf((error**2).sum() / (variance + 20 / 4), 4096) > FALSE_ALARM
    assert stats.chi2.cdf((error**2).sum() / variance, 4096) > FALSE_ALARM


def test_decoded_subjects_are_divided_by_the_expected_sample():
    rows = [(b"%d" % i, row_of(4096, 0.5)) for i in range(40)]
    plan = replace(DOCUMENT, noise_multiplier=0.01)
    found = decode(encode(rows, plan), plan)
    # Forty rows where the plan expects .01 * 2000 = 20: twice the row, not the row.
    assert np.linalg.norm(found) == pytest.approx(1.0, rel=0.05)


def test_decoding_lifts_to_the_centre():
    plan = replace(SMALL, dimension=5, cohort=100)
    total = np.array([0, 1, 2**32 - 1, 2**31 - 1, 2**31], dtype=np.uint32)
    expected = np.array([0, 1, -1, 2**31 - 1, -(2**31)]) / 283 / 100
    assert decode(total, plan) == pytest.approx(expected, rel=1e-12)


def test_nothing_at_a_node_looks_like_something():
    # An empty node's vector is noise like any other's; two of them differ.
    one, two = encode([], LOCAL), encode([], LOCAL)
    assert one.dtype == np.uint32
    assert one.shape == (4096,)
    assert (one != two).mean() > 0.9


@pytest.mark.parametrize(
    "row",
    [np.ones(7), np.ones((8, 1)), np.ones((1, 8)), np.float64(1.0), [1.0] * 8, None],
)
def test_wrong_shapes_are_refused_before_their_values_are_seen(row):
    with pytest.raises(ValueError, match=r"array of shape \(8,\)"):
        encode([(b"row", row)], SMALL)


def test_more_rows_than_the_plan_allows_are_refused():
    rows = [(b"%d" % i, np.zeros(4096)) for i in range(101)]
    assert encode(rows[:100], DOCUMENT).shape == (4096,)
    with pytest.raises(ValueError, match="the plan allows 100 rows"):
        encode(rows, DOCUMENT)
    with pytest.raises(ValueError, match="the plan allows 1 rows"):
        encode(rows[:2], CLIENT)


def test_a_subject_has_one_row():
    with pytest.raises(ValueError, match="same id"):
        encode([(b"a", np.zeros(4096)), (b"a", np.ones(4096))], DOCUMENT)


@pytest.mark.parametrize(
    "total",
    [np.zeros(7, np.uint32), np.zeros(8, np.int32), np.zeros(8), np.zeros((8, 1), np.uint32)],
)
def test_sums_of_the_wrong_kind_are_refused(total):
    with pytest.raises(ValueError, match=r"uint32 of shape \(8,\)"):
        decode(total, SMALL)


def test_a_rounding_secret_does_not_show_itself():
    secret = RoundingSecret(b"k" * 32)
    assert "kkk" not in f"{secret!r} {secret}"
    with pytest.raises(ValueError, match="32 bytes"):
        RoundingSecret(b"short")
