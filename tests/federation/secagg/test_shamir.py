"""Shamir's scheme: any t shares open the secret, fewer are consistent with every secret."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.secagg.refusal import Reason, Refusal
from federation.secagg.secret import Secret
from federation.secagg.shamir import PRIME, check_share, combine, split
from tests.federation.secagg.parties import because


def interpolate_at_zero(points: list[tuple[int, int]]) -> int:
    """Lagrange's formula in rational numbers, for small values only."""
    total = Fraction(0)
    for i, (x, y) in enumerate(points):
        term = Fraction(y)
        for j, (other, _) in enumerate(points):
            if j != i:
                term *= Fraction(other, other - x)
        total += term
    assert total.denominator == 1
    return int(total)


def test_the_modulus_is_the_smallest_prime_above_2_to_256() -> None:
    """Fermat's test to six bases: a composite passes none of them by accident at this size."""

    def probably_prime(number: int) -> bool:
        return all(pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7, 11, 13))

    assert next(n for n in range(2**256 + 1, 2**256 + 1000) if probably_prime(n)) == PRIME


def test_known_polynomial() -> None:
    """f(x) = 1234 + 166 x + 94 x^2, the example of Wikipedia's article on Shamir's scheme."""
    values = {1: 1494, 2: 1942, 3: 2578, 4: 3402, 5: 4414, 6: 5614}
    for chosen in ((1, 2, 3), (2, 4, 5), (1, 3, 6)):
        assert interpolate_at_zero([(x, values[x]) for x in chosen]) == 1234
        shares = {x - 1: values[x].to_bytes(33) for x in chosen}
        assert combine(shares, 3).reveal() == (1234).to_bytes(32)


@st.composite
def sharings(draw: st.DrawFn) -> tuple[bytes, int, list[int], list[int]]:
    secret = draw(st.binary(min_size=32, max_size=32))
    holders = draw(st.lists(st.integers(0, 2**16 - 1), min_size=2, max_size=30, unique=True))
    threshold = draw(st.integers(2, len(holders)))
    chosen = draw(st.permutations(holders))[: draw(st.integers(threshold, len(holders)))]
    return secret, threshold, holders, chosen


@given(sharings())
def test_any_threshold_of_shares_opens_the_secret(
    case: tuple[bytes, int, list[int], list[int]],
) -> None:
    secret, threshold, holders, chosen = case
    shares = split(Secret(secret), threshold, holders)
    assert shares.keys() == set(holders)
    assert all(check_share(share) == share for share in shares.values())
    assert combine({i: shares[i] for i in chosen}, threshold).reveal() == secret
    fewer = {i: shares[i] for i in chosen[: threshold - 1]}
    with pytest.raises(Refusal, check=because(Reason.COHORT_TOO_SMALL)):
        combine(fewer, threshold)


@given(st.integers(2, 12), st.binary(min_size=32, max_size=32))
def test_fewer_shares_fit_every_secret(threshold: int, other: bytes) -> None:
    """For t - 1 shares and any secret whatever there is a share that makes them open to it."""
    shares = split(Secret(b"s" * 32), threshold, range(threshold))
    known = {i: shares[i] for i in range(threshold - 1)}
    # The value at x = t is linear in the last share: two guesses give the line.
    zero, one = (
        int.from_bytes(_open({**known, threshold - 1: guess.to_bytes(33)}, threshold))
        for guess in (0, 1)
    )
    last = (int.from_bytes(other) - zero) * pow(one - zero, -1, PRIME) % PRIME
    assert _open({**known, threshold - 1: last.to_bytes(33)}, threshold)[1:] == other


@given(sharings())
def test_fewer_shares_do_not_open_to_the_secret(
    case: tuple[bytes, int, list[int], list[int]],
) -> None:
    """A polynomial of too low a degree would pass every other test."""
    secret, threshold, holders, _ = case
    shares = split(Secret(secret), threshold, holders)
    fewer = {i: shares[i] for i in holders[: threshold - 1]}
    assert _open(fewer, threshold - 1)[1:] != secret


def _open(shares: dict[int, bytes], threshold: int) -> bytes:
    """The interpolated field element, 33 bytes, whether or not it is a 32-byte secret."""
    total = 0
    for i, share in shares.items():
        weight = int.from_bytes(share)
        for j in shares:
            if j != i:
                weight = weight * (j + 1) * pow(j - i, -1, PRIME) % PRIME
        total += weight
    assert len(shares) == threshold
    return (total % PRIME).to_bytes(33)


def test_shares_of_the_same_secret_differ_each_time() -> None:
    once, again = (split(Secret(b"s" * 32), 2, [0, 1]) for _ in range(2))
    assert once[0] != again[0]
    assert once[1] != again[1]


@pytest.mark.parametrize(
    ("threshold", "holders"), [(1, [0, 1]), (3, [0, 1]), (2, [0, 0]), (2, [0, 1, 1])]
)
def test_senseless_sharings_are_refused(threshold: int, holders: list[int]) -> None:
    with pytest.raises(ValueError, match="threshold"):
        split(Secret(bytes(32)), threshold, holders)


def test_shares_outside_the_field_are_refused() -> None:
    for share in (PRIME.to_bytes(33), b"\xff" * 33, bytes(32), bytes(34)):
        with pytest.raises(Refusal, check=because(Reason.BAD_SHARE)):
            check_share(share)
    largest = (PRIME - 1).to_bytes(33)
    assert check_share(largest) == largest


def test_shares_that_give_no_32_byte_secret_are_refused() -> None:
    """A constant polynomial with the value 2^256, one more than the largest secret."""
    value = (2**256).to_bytes(33)
    with pytest.raises(Refusal, check=because(Reason.BAD_SHARE)):
        combine({0: value, 1: value}, 2)
