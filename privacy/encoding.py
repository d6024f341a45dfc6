"""From real rows to one noisy integer vector, and from the opened sum back to a real vector.

A row is what one protected unit adds: in mode `client` the node's whole update, otherwise the
summed gradient of one subject. Every row is clipped, rounded at random to the integer grid and
held to the plan's sensitivity in integers; what does not pass is the zero row. No value in a row
can make the encoder raise, since an abort would be an output (arXiv 2102.06387 calls these steps
clip, scale, round and noise).
"""

import hashlib
import hmac
import math
import os
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from privacy.discrete_gaussian import discrete_gaussian
from privacy.keystream import KEY_BYTES, Keystream
from privacy.plan import PrivacyPlan

_LABEL = b"alcove/rounding/v1\0"
_HALF_WORD = np.uint64(32)


class RoundingSecret:
    """The secret of one encoding from which each row's rounding coins follow; never printed.

    The coins depend on the secret and the row's id only, so that erasing one row leaves the
    encoding of every other row as it was.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a rounding secret has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key

    @classmethod
    def fresh(cls) -> "RoundingSecret":
        """A secret that has not been used before."""
        return cls(os.urandom(KEY_BYTES))

    def coins(self, row_id: bytes, count: int) -> NDArray[np.float64]:
        """`count` numbers of the row's own, uniform on the multiples of 2^-53 in [0, 1)."""
        key = hmac.digest(self._key, _LABEL + row_id, hashlib.sha256)
        return np.ldexp((Keystream(key).words(count) >> np.uint64(11)).astype(np.float64), -53)


def encode(
    rows: Iterable[tuple[bytes, NDArray[np.generic]]], plan: PrivacyPlan
) -> NDArray[np.uint32]:
    """One node's contribution to a round: its quantised rows, summed, plus its noise share.

    Args:
        rows: pairs of a row's id, unique in the round, and its vector of shape (d,); they may
            come from a generator, since only their sum is kept. None at all is a contribution
            too, and looks like any other.
        plan: the public parameters of the round.

    Returns:
        Residues modulo 2^32, shape (d,), uint32, ready to be masked.

    Raises:
        ValueError: a vector's shape, a repeated id or the number of rows breaks the plan.
    """
    return encode_with(rows, plan, RoundingSecret.fresh(), Keystream.fresh())


def encode_with(
    rows: Iterable[tuple[bytes, NDArray[np.generic]]],
    plan: PrivacyPlan,
    secret: RoundingSecret,
    noise: Keystream,
) -> NDArray[np.uint32]:
    """`encode` with given randomness, for simulations that repeat: it protects nobody.

    Whoever knows `noise` can take the noise off again.
    """
    total = discrete_gaussian(plan.share_sigma, plan.dimension, noise)
    seen: set[bytes] = set()
    for row_id, row in rows:
        if row_id in seen:
            raise ValueError("two rows of one encoding have the same id; a subject has one row")
        seen.add(row_id)
        if len(seen) > plan.rows_per_node:
            raise ValueError(f"the plan allows {plan.rows_per_node} rows of a node in a round")
        total += quantise(row, row_id, plan, secret)
    return total.astype(np.uint32)


def quantise(
    row: NDArray[np.generic], row_id: bytes, plan: PrivacyPlan, secret: RoundingSecret
) -> NDArray[np.int64]:
    """One row on the integer grid, of squared L2 norm at most `plan.sensitivity_squared`.

    Clips to C in float64, divides by gamma and rounds each coordinate up with the probability of
    its fractional part (unconditional stochastic rounding, arXiv 2102.06387, section 4.1). A row
    with a value that is not a finite real number becomes the zero row, as does one whose integer
    norm is too large.

    Raises:
        ValueError: the shape is not (d,). Its values are not looked at.
    """
    if not isinstance(row, np.ndarray) or row.shape != (plan.dimension,):
        shape = getattr(row, "shape", type(row).__name__)
        raise ValueError(
            f"a row of this plan is an array of shape ({plan.dimension},), not {shape}"
        )
    with np.errstate(all="ignore"):
        scaled = clip(row, plan.clip_norm) / plan.grid
        whole = np.floor(scaled)
        rounded = whole + (secret.coins(row_id, plan.dimension) < scaled - whole)
        # Before the cast: outside this range it could wrap around into an acceptable vector.
        if not np.all(np.abs(rounded) <= plan.sensitivity):
            return np.zeros(plan.dimension, dtype=np.int64)
    integers = rounded.astype(np.int64)
    if _squared_norm(integers) > plan.sensitivity_squared:
        return np.zeros(plan.dimension, dtype=np.int64)
    return integers


def clip(row: NDArray[np.generic], clip_norm: float) -> NDArray[np.float64]:
    """A row in float64, shape (d,), scaled to the L2 norm `clip_norm` if it is longer.

    Zeros where a value is not a finite real number.
    """
    zero = np.zeros(row.shape)
    if row.dtype.kind not in "biuf":
        return zero
    values = np.asarray(row).astype(np.float64)
    largest = float(np.max(np.abs(values)))
    if not 0 < largest < math.inf:
        return zero
    # Dividing by the largest value first keeps squares from overflowing and from vanishing.
    direction = values / largest
    length = math.sqrt(float(np.sum(direction * direction)))
    if largest * length <= clip_norm:
        return values
    return direction * (clip_norm / length)


def decode(total: NDArray[np.uint32], plan: PrivacyPlan) -> NDArray[np.float64]:
    """The noisy mean from the opened sum: centred lift, grid, public divisor.

    Args:
        total: residues modulo 2^32 of the survivors' sum, shape (d,), uint32.

    Returns:
        float64, shape (d,), in the units of the trained vector. Drop-outs shrink it towards
        zero: a divisor that followed them would depend on who took part.

    Raises:
        ValueError: the shape or the type is not as above.
    """
    if total.shape != (plan.dimension,) or total.dtype != np.uint32:
        raise ValueError(
            f"a sum of this plan is uint32 of shape ({plan.dimension},), not {total.dtype} of "
            f"shape {total.shape}"
        )
    return total.astype(np.int32).astype(np.float64) * (plan.grid / plan.divisor)


def _squared_norm(integers: NDArray[np.int64]) -> int:
    """Exact: squares below 2^62 are summed in halves, which cannot overflow 64 bits."""
    squares = (integers * integers).astype(np.uint64)
    low = int((squares & np.uint64(2**32 - 1)).sum())
    return (int((squares >> _HALF_WORD).sum()) << 32) + low
