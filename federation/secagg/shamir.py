"""Shamir's secret sharing over the prime field of 2^256 + 297 elements.

A. Shamir, "How to share a secret", CACM 22(11), 1979. The prime is the smallest above 2^256, so
that any 32-byte secret is one field element and a share takes 33 bytes. The holder with roster
index i gets the polynomial at x = i + 1; the secret is its value at 0.

Python's integers are not constant-time. Shares are computed once from fresh coefficients, and never
on request, which leaves little to time.
"""

import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache

from federation.secagg.refusal import Reason, Refusal
from federation.secagg.secret import Secret

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: Secret, threshold: int, holders: Sequence[int]) -> dict[int, bytes]:
    """One share for each holder, any `threshold` of which open the secret and fewer tell nothing.

    Args:
        secret: 32 bytes.
        threshold: t, from 2 to the number of holders.
        holders: distinct roster indices.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 2 <= threshold <= len(set(holders)) == len(holders):
        raise ValueError(f"need 2 <= threshold <= distinct holders, not {threshold}, {holders}")
    polynomial = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    polynomial.append(int.from_bytes(secret.reveal()))
    shares = {}
    for holder in holders:
        value = 0
        for coefficient in polynomial:  # x has 16 bits, so one reduction at the end is cheaper
            value = value * (holder + 1) + coefficient
        shares[holder] = (value % PRIME).to_bytes(SHARE_BYTES)
    return shares


def combine(shares: Mapping[int, bytes], threshold: int) -> Secret:
    """The secret, from the `threshold` shares of the lowest indices.

    Raises:
        Refusal: COHORT_TOO_SMALL with fewer shares; BAD_SHARE where the shares lie on no polynomial
            with a 32-byte secret. Other wrong shares give a wrong secret: check it.
    """
    if len(shares) < threshold:
        raise Refusal(Reason.COHORT_TOO_SMALL, f"{len(shares)} shares of {threshold} needed")
    holders = tuple(sorted(shares)[:threshold])
    total = sum(
        weight * int.from_bytes(shares[holder])
        for holder, weight in zip(holders, _lagrange_at_zero(holders), strict=True)
    )
    value = total % PRIME
    if value >> (8 * SECRET_BYTES):
        raise Refusal(Reason.BAD_SHARE, "shares do not belong together")
    return Secret(value.to_bytes(SECRET_BYTES))


def check_share(share: bytes) -> bytes:
    """The share itself, if it is 33 bytes below the prime; otherwise Refusal BAD_SHARE."""
    if len(share) != SHARE_BYTES or int.from_bytes(share) >= PRIME:
        raise Refusal(Reason.BAD_SHARE, "a share is not an element of the field")
    return share


@lru_cache(maxsize=4096)
def _lagrange_at_zero(holders: tuple[int, ...]) -> tuple[int, ...]:
    """Weights w_i with f(0) = sum w_i f(x_i) for every polynomial of degree below their number.

    w_i = prod_{j != i} x_j / (x_j - x_i). The divisions share one modular inverse (Montgomery's
    trick), which costs more than everything else here.
    """
    points = [holder + 1 for holder in holders]
    numerator = 1
    for x in points:
        numerator = numerator * x % PRIME
    denominators = []
    for i, x in enumerate(points):
        denominator = x
        for j, other in enumerate(points):
            if j != i:
                denominator *= other - x
        denominators.append(denominator % PRIME)
    prefixes = [1]
    for denominator in denominators:
        prefixes.append(prefixes[-1] * denominator % PRIME)
    inverse = pow(prefixes.pop(), -1, PRIME)
    weights = []
    for denominator, prefix in zip(reversed(denominators), reversed(prefixes), strict=True):
        weights.append(numerator * inverse * prefix % PRIME)
        inverse = inverse * denominator % PRIME
    return tuple(reversed(weights))
