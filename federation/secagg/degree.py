"""Degree and threshold of the neighbour graph, in exact integer arithmetic.

Bell et al., "Secure single-server aggregation with (poly)logarithmic overhead" (CCS 2020,
eprint 2020/704), let every client exchange masks and Shamir shares with k neighbours only: a random
Harary graph, n clients on a ring under a random permutation, each joined to the k/2 nearest on
either side. The parameters k (`degree`) and t (`threshold`) must make two events unlikely:

1. the honest clients that stay to the end are cut into groups whose sums could be opened apart;
2. some client has t or more colluding neighbours, who together hold its secrets.

Together they have probability below 2^-40, half of it each. That fewer than t neighbours of
some client survive is a failed round and no leak; it is kept below 2^-20. These are the events, the
split and the constants of google-parfait/federated-compute,
`fcp/secagg/server/graph_parameter_finder.cc`. Probabilities are compared as ratios of integers, so
nothing is rounded and every party computes the same answer.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import comb

SECURITY_BITS = 40
CORRECTNESS_BITS = 20

_BITS_PER_EVENT = SECURITY_BITS + 1


@dataclass(frozen=True)
class Degree:
    """Neighbours of each client (`degree`, k) and shares that open a secret (`threshold`, t)."""

    degree: int
    threshold: int


@lru_cache(maxsize=256)
def find_degree(
    clients: int,
    colluders: int,
    dropouts: int,
    *,
    fewest: int | None = None,
    semi_malicious: bool = False,
) -> Degree:
    """The smallest even degree below `clients` - 1 that is safe, with its smallest threshold.

    Args:
        clients: n, the clients that advertise keys.
        colluders: the most of them that share what they see with the server.
        dropouts: the most of them that leave before the end.
        fewest: the smallest cohort for which the threshold must hold too. Honest clients may stay
            away before the round while colluders do not. Default n.
        semi_malicious: Google's rule for a server that lies in the first message only. No threat
            model of this package relies on it; it is here because the published table has it.

    Raises:
        ValueError: counts out of range, or no such degree: use the complete graph.
    """
    fewest = clients if fewest is None else fewest
    if not (clients >= 2 and colluders >= 0 and dropouts >= 0 and colluders < fewest <= clients):
        raise ValueError("need clients >= 2 and 0 <= colluders < fewest <= clients, dropouts >= 0")
    if colluders + dropouts >= clients:
        raise ValueError("colluders and drop-outs together must leave somebody")
    for degree in range(_first_connected(clients, colluders + dropouts), clients - 1, 2):
        # A cohort of at most degree + 1 is complete, and everybody has all colluders around.
        most_bad = _most_bad_neighbours(max(fewest, degree + 1), colluders, degree)
        if semi_malicious:
            most_bad = _ceil_semi_malicious(most_bad, degree)
        threshold = max(most_bad + 1, 2)
        if threshold <= _fewest_good_neighbours(clients, dropouts, degree):
            return Degree(degree, threshold)
    raise ValueError(
        f"no degree below {clients - 1} is safe for {clients} clients with {colluders} colluders "
        f"and {dropouts} drop-outs; the complete graph needs none of this"
    )


@lru_cache(maxsize=1024)
def stays_connected(clients: int, bad: int, degree: int) -> bool:
    """Whether P[the graph less `bad` random clients falls apart] < 2^-41.

    To cut a Harary graph, k/2 neighbours on the ring must go in two disjoint places. There are
    n(n-k-1)/2 pairs of such places and the k clients of one pair are all bad with probability
    C(bad, k)/C(n, k); the union bound multiplies the two.
    """
    pairs_twice = clients * (clients - degree - 1)
    return (pairs_twice * comb(bad, degree)) << _BITS_PER_EVENT < 2 * comb(clients, degree)


@lru_cache(maxsize=1024)
def colluders_stay_below(clients: int, colluders: int, degree: int, threshold: int) -> bool:
    """Whether P[some client has `threshold` or more colluding neighbours] <= 2^-41."""
    return _most_bad_neighbours(clients, colluders, degree) < threshold


def _first_connected(clients: int, bad: int) -> int:
    """Smallest even degree of a graph that stays connected, found by doubling and bisection.

    A larger degree only makes disconnection less likely, so the condition switches once.
    """
    high = 2
    while high < clients - 1 and not stays_connected(clients, bad, high):
        high *= 2
    evens = range(2, min(high, clients), 2)
    return 2 + 2 * bisect_left(evens, True, key=lambda k: stays_connected(clients, bad, k))


def _most_bad_neighbours(clients: int, marked: int, degree: int) -> int:
    """Smallest x with P[Hyp(clients, marked, degree) > x] <= 2^-41 / clients."""
    limit = comb(clients, degree)
    tail = 0
    for x, weight in _weights_from_above(clients, marked, degree):
        tail += weight
        if (tail * clients) << _BITS_PER_EVENT > limit:
            return x
    return 0


def _fewest_good_neighbours(clients: int, dropouts: int, degree: int) -> int:
    """Largest x with P[survivors among the neighbours < x] <= 2^-20 / clients.

    Fewer than x of k neighbours survive exactly when more than k - x of them drop out.
    """
    limit = comb(clients, degree)
    tail = 0
    for lost, weight in _weights_from_above(clients, dropouts, degree):
        tail += weight
        if (tail * clients) << CORRECTNESS_BITS > limit:
            return degree - lost
    return degree


def _weights_from_above(clients: int, marked: int, degree: int) -> Iterator[tuple[int, int]]:
    """(x, C(marked, x) C(clients - marked, degree - x)) from the largest possible x down."""
    unmarked = clients - marked
    x = min(marked, degree)
    weight = comb(marked, x) * comb(unmarked, degree - x)
    while weight:
        yield x, weight
        weight = weight * x * (unmarked - degree + x) // ((marked - x + 1) * (degree - x + 1))
        x -= 1


def _ceil_semi_malicious(most_bad: int, degree: int) -> int:
    """ceil((t1 + k - 1.25) / 2), the t1 of a semi-malicious server, in integers."""
    return -((-4 * (most_bad + degree) + 5) // 8)
