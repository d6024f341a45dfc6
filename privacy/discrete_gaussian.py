"""Discrete Gaussian noise by inversion of a table that is exact to 127 bits.

The discrete Gaussian N_Z(0, sigma^2) gives the integer x the probability
exp(-x^2 / (2 sigma^2)) / sum_y exp(-y^2 / (2 sigma^2)) (Canonne, Kamath, Steinke, arXiv
2004.00010, definition 1).
"""

from functools import lru_cache

import mpmath  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from privacy.keystream import Keystream

LARGEST_SIGMA = 2.0**18
"""Largest standard deviation with a table: 3.5 million entries, 56 MB, some seconds to build."""

_WORD_BITS = 127
_FIXED_POINT_BITS = 256
_BLOCK = 2**16


def discrete_gaussian(sigma: float, count: int, keystream: Keystream) -> NDArray[np.int64]:
    """Draw `count` independent samples of N_Z(0, sigma^2); int64, shape (count,).

    Each sample inverts the cumulative table of |X| at 127 random bits and takes its sign from
    one more. Per sample it is within `exactness(sigma)` of N_Z(0, sigma^2) in total variation.

    Args:
        sigma: standard deviation parameter in grid units, in (0, LARGEST_SIGMA].
        count: number of samples.
        keystream: where every random bit comes from; `Keystream.fresh()` for real noise.

    Raises:
        ValueError: `sigma` is not positive, or needs a table beyond memory.
    """
    table = _table(sigma)
    samples = np.empty(count, dtype=np.int64)
    for start in range(0, count, _BLOCK):
        block = samples[start : start + _BLOCK]
        word = keystream.words(len(block))
        magnitude = table.invert(word >> np.uint64(1), keystream)
        # -0 is 0, so that a sign drawn for every sample leaves zero its own probability.
        np.multiply(magnitude, 1 - 2 * (word & np.uint64(1)).astype(np.int64), out=block)
    return samples


def exactness(sigma: float) -> float:
    """Bound on the total variation distance of one sample from N_Z(0, sigma^2) (eta).

    The proof, with m_k = P(|X| = k), C_k = m_0 + ... + m_k and a table for k < K:

    1. The table ends where the mass beyond it is below 2^-130. Renormalising what is left moves
       the distribution by that mass.
    2. Entry k is floor(2^127 C_k) up to the error of the fixed-point sums. The recurrences
       p_{k+1} = p_k r_k and r_{k+1} = r_k g truncate at 2^-256 with r_0, g and every factor at
       most 1, hence err(r_k) <= (k + 1) 2^-255, err(p_k) <= (k + 1)^2 2^-255 and
       err(C_k) <= 2 (k + 1)^3 2^-255: with K < 2^22, below 2^-187.
    3. So each of the K boundaries is off by less than 1.001 * 2^-127, and each probability by
       the errors of its two boundaries. Half the sum of them is at most 1.001 K 2^-127.
    4. 127 uniform bits against an integer boundary choose each value with exactly the
       probability that the table gives it, and the keystream is taken as uniform (AES).

    Together eta <= (K + 1) 2^-126, and K <= 14 sigma + 2 because the mass beyond 14 sigma is
    below 2^-130 (P(|X| >= k) <= 2 exp(-k^2 / (2 sigma^2)) / (1 - exp(-k / sigma^2)) m_0).
    """
    return (14 * sigma + 3) * 2.0**-126


class _Table:
    """Boundaries T_k = 2^127 P(|X| <= k), as high and low words, and a guide into them."""

    def __init__(self, boundaries: list[int]) -> None:
        self._high = np.array([b >> 64 for b in boundaries], dtype=np.uint64)
        self._low = np.array([b & (2**64 - 1) for b in boundaries], dtype=np.uint64)
        # The guide answers for every leading-bits bucket that holds no boundary, which is most.
        bits = min(max(len(boundaries).bit_length() + 5, 8), 18)
        self._shift = np.uint64(63 - bits)
        bucket = np.arange(2**bits, dtype=np.uint64)
        first = np.searchsorted(self._high, bucket << self._shift, side="left")
        last = np.searchsorted(
            self._high, ((bucket + np.uint64(1)) << self._shift) - np.uint64(1), side="right"
        )
        self._guide = np.where(first == last, first, -1).astype(np.int32)

    def invert(self, high: NDArray[np.uint64], keystream: Keystream) -> NDArray[np.int64]:
        """The number of boundaries at or below each 127-bit word.

        `high` are the top 63 bits of the words. The low 64 bits decide only where the top ones
        equal those of a boundary, and are drawn only there.
        """
        found = self._guide[(high >> self._shift).astype(np.intp)].astype(np.int64)
        unsure = np.flatnonzero(found < 0)
        found[unsure] = np.searchsorted(self._high, high[unsure], side="right")
        candidates = unsure[found[unsure] > 0]
        tied = candidates[self._high[found[candidates] - 1] == high[candidates]]
        for i, low in zip(tied, keystream.words(len(tied)), strict=True):
            first = np.searchsorted(self._high, high[i], side="left")
            found[i] = first + np.searchsorted(self._low[first : found[i]], low, side="right")
        return found


@lru_cache(maxsize=4)
def _table(sigma: float) -> _Table:
    if not 0 < sigma <= LARGEST_SIGMA:
        raise ValueError(
            f"the noise's standard deviation must lie in (0, {LARGEST_SIGMA:.0f}] grid units, not "
            f"{sigma}: take a coarser grid"
        )
    return _Table(_boundaries(sigma))


def _boundaries(sigma: float) -> list[int]:
    """T_0 <= T_1 <= ... <= T_{K-1} = 2^127, from integer recurrences at 256 bits."""
    one = 1 << _FIXED_POINT_BITS
    with mpmath.workprec(_FIXED_POINT_BITS + 64):
        exponent = 1 / mpmath.mpf(sigma) ** 2
        ratio = int(mpmath.floor(mpmath.exp(-exponent / 2) * one))
        growth = int(mpmath.floor(mpmath.exp(-exponent) * one))
    weight, total, sums = one, one, [one]
    while True:
        weight = weight * ratio >> _FIXED_POINT_BITS
        # Later ratios are smaller, so a geometric series bounds the mass from here on.
        if 2 * weight * one // (one - ratio) < total >> 130:
            break
        total += 2 * weight
        sums.append(total)
        ratio = ratio * growth >> _FIXED_POINT_BITS
    return [(c << _WORD_BITS) // total for c in sums]
