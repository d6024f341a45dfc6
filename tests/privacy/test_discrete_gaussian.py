"""The sampler against the exact distribution and against OpenDP's exact sampler.

Each statistical test raises a false alarm with probability 10^-7.
"""

import math

import mpmath
import numpy as np
import opendp.prelude as dp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.discrete_gaussian import LARGEST_SIGMA, discrete_gaussian, exactness
from privacy.keystream import Keystream
from tests.privacy import oracles

FALSE_ALARM = 1e-7


class Script(Keystream):
    """A keystream that says what a test wants it to say."""

    def __init__(self, *answers: list[int]) -> None:
        self.answers = list(answers)

    def words(self, count: int) -> np.ndarray:
        answer = self.answers.pop(0)
        assert len(answer) == count
        return np.array(answer, dtype=np.uint64)


def exact_boundaries(sigma: float) -> list[int]:
    """2^127 P(|X| <= k) for k = 0, 1, ... by direct summation with 120 digits."""
    with mpmath.workdps(120):
        scale = 2 * mpmath.mpf(sigma) ** 2
        weights = [mpmath.exp(-(k**2) / scale) for k in range(math.ceil(30 * sigma) + 2)]
        total = 1 + 2 * mpmath.fsum(weights[1:])
        sums, below = [], mpmath.mpf(-1)
        for weight in weights:
            below += 2 * weight
            sums.append(int(mpmath.floor(below / total * 2**127)))
        return sums


@pytest.mark.parametrize("sigma", [0.7, 1.0, 4.0, 50.0])
def test_every_boundary_of_the_table_is_exact_to_its_last_bit(sigma):
    # The words next to each exact boundary invert to k and to k + 1. Beyond 9 sigma several
    # boundaries share their high word, so that only the low one, asked for on ties, decides.
    boundaries = exact_boundaries(sigma)
    reach = math.ceil(12 * sigma)
    words = [b + step for b in boundaries[:reach] for step in (-1, 1)]
    ties = {b >> 64 for b in boundaries}
    low = [w & (2**64 - 1) for w in words if w >> 64 in ties]
    for sign in (0, 1):
        script = Script([2 * (w >> 64) + sign for w in words], low)
        samples = discrete_gaussian(sigma, len(words), script)
        expected = [k + step for k in range(reach) for step in (0, 1)]
        assert samples.tolist() == [(-1) ** sign * k for k in expected]
    # One unit at each of K boundaries, and the mass beyond 13 sigma, bound the distance.
    beyond = 2 * mpmath.erfc(13 / mpmath.sqrt(2))
    assert exactness(sigma) >= math.ceil(13 * sigma) * 2**-127 + beyond
    assert exactness(sigma) <= 1e-33


@pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0, 64.0, 1000.0])
def test_chi_square_against_exact_probabilities(sigma):
    count = 2**20
    samples = discrete_gaussian(sigma, count, Keystream.fresh())
    support, probabilities = oracles.discrete_gaussian_pmf(sigma)
    counts = np.bincount(samples - support[0], minlength=len(support))
    assert oracles.chi_square_p(counts, count * probabilities) > FALSE_ALARM


@pytest.mark.parametrize("sigma", [1.0, 4.0, 64.0])
def test_two_samples_with_opendp(sigma):
    dp.enable_features("contrib")
    count = 2**14
    space = dp.vector_domain(dp.atom_domain(T="i32")), dp.l2_distance(T=float)
    theirs = np.array(dp.m.make_gaussian(*space, scale=sigma)([0] * count))
    ours = discrete_gaussian(sigma, 16 * count, Keystream.fresh())
    edges = np.unique(np.quantile(ours, np.linspace(0, 1, 40), method="nearest"))
    cells = [np.bincount(np.searchsorted(edges, sample)) for sample in (ours, theirs)]
    width = max(map(len, cells))
    table = np.array([np.pad(c, (0, width - len(c))) for c in cells])
    kept = table[:, table.sum(axis=0) >= 400]
    assert stats.chi2_contingency(kept).pvalue > FALSE_ALARM


@pytest.mark.parametrize("sigma", [2.0, 50.0])
def test_samples_are_independent_of_their_neighbours(sigma):
    samples = discrete_gaussian(sigma, 2**20, Keystream.fresh()).astype(float)
    limit = stats.norm.isf(FALSE_ALARM / 2) / math.sqrt(len(samples))
    for lag in (1, 2, 2**16):
        assert abs(np.mean(samples[lag:] * samples[:-lag]) / sigma**2) < limit


@settings(max_examples=25, deadline=None)
@given(sigma=st.floats(1e-3, 500), count=st.integers(0, 2**17))
def test_any_size_and_sigma(sigma, count):
    samples = discrete_gaussian(sigma, count, Keystream.fresh())
    assert samples.shape == (count,)
    assert samples.dtype == np.int64
    assert (np.abs(samples) <= 14 * sigma + 2).all()


def test_a_key_decides_everything_and_fresh_keys_differ():
    again = [discrete_gaussian(9.5, 1000, Keystream(bytes(32))) for _ in range(2)]
    fresh = discrete_gaussian(9.5, 1000, Keystream.fresh())
    assert (again[0] == again[1]).all()
    assert (again[0] != fresh).any()


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, 2 * LARGEST_SIGMA])
def test_absurd_sigma_is_refused(sigma):
    with pytest.raises(ValueError, match="standard deviation"):
        discrete_gaussian(sigma, 1, Keystream.fresh())


def test_keystream_is_aes_256_in_counter_mode():
    # Zero key and counter blocks 0 and 1: NIST CAVP ECBKeySbox256 and, as the tag mask, the GCM
    # specification's test case 13.
    words = Keystream(bytes(32)).words(4)
    expected = "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738b"
    assert words.tobytes().hex() == expected


def test_keystream_goes_on_where_it_stopped():
    parts, whole = Keystream(bytes(32)), Keystream(bytes(32))
    assert [*parts.words(3), *parts.words(5)] == list(whole.words(8))


def test_keystream_refuses_a_short_key():
    with pytest.raises(ValueError, match="32 bytes"):
        Keystream(bytes(16))
