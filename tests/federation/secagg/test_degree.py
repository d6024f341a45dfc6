"""The finder against Google's published table, and against SciPy's hypergeometric distribution."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln
from scipy.stats import hypergeom

from federation.secagg.degree import (
    Degree,
    colluders_stay_below,
    find_degree,
    stays_connected,
)

TABLE = [
    # clients, adversarial rate, drop-out rate, degree, threshold; an honest server
    (100, 0.45, 0.45, 92, 46),
    (1_000, 0.45, 0.45, 822, 417),
    (10, 0.33, 0.33, 8, 4),
    (100, 0.33, 0.33, 68, 34),
    (1_000, 0.33, 0.33, 286, 150),
    (10_000, 0.33, 0.33, 422, 221),
    (100_000, 0.33, 0.33, 480, 251),
    (100, 0.05, 0.33, 28, 6),
    (1_000, 0.05, 0.33, 72, 24),
    (10_000, 0.05, 0.33, 86, 29),
    (1_000_000, 0.05, 0.33, 102, 34),
    (10, 0.33, 0.05, 4, 4),
    (100, 0.33, 0.05, 34, 29),
    (1_000, 0.33, 0.05, 78, 60),
    (10_000, 0.33, 0.05, 92, 70),
    (100, 0.05, 0.05, 12, 6),
    (1_000, 0.05, 0.05, 30, 17),
    (10_000, 0.05, 0.05, 34, 20),
    (1_000, 0.33, 0.0, 38, 36),
    (100, 0.0, 0.33, 26, 2),
    (1_000, 0.0, 0.33, 38, 2),
    (1_000, 0.0, 0.0, 2, 2),
]
"""From google-parfait/federated-compute, fcp/secagg/server/graph_parameter_finder_test.cc."""

SEMI_MALICIOUS = [
    (100, 0.3, 0.3, 92, 62),
    (1_000, 0.3, 0.3, 872, 584),
    (10, 0.05, 0.33, 8, 5),
    (100, 0.05, 0.33, 72, 39),
    (1_000, 0.05, 0.33, 398, 223),
    (1_000, 0.33, 0.05, 132, 109),
    (10_000, 0.33, 0.05, 178, 146),
    (1_000, 0.05, 0.05, 52, 37),
    (10_000, 0.05, 0.05, 62, 44),
    (1_000, 0.0, 0.33, 228, 115),
    (1_000, 0.33, 0.0, 38, 37),
]
"""From the same file."""


def counts(clients: int, adversarial: float, dropouts: float) -> tuple[int, int]:
    """Whole colluders and drop-outs, rounded as the published finder rounds them."""
    bad = math.floor((adversarial + 1e-14) * clients)
    return bad, clients - math.ceil((1 - dropouts - 1e-14) * clients)


@pytest.mark.parametrize(("clients", "bad", "lost", "degree", "threshold"), TABLE)
def test_published_table(
    clients: int, bad: float, lost: float, degree: int, threshold: int
) -> None:
    assert find_degree(clients, *counts(clients, bad, lost)) == Degree(degree, threshold)


@pytest.mark.parametrize(("clients", "bad", "lost", "degree", "threshold"), SEMI_MALICIOUS)
def test_published_table_semi_malicious(
    clients: int, bad: float, lost: float, degree: int, threshold: int
) -> None:
    found = find_degree(clients, *counts(clients, bad, lost), semi_malicious=True)
    assert found == Degree(degree, threshold)


def test_stricter_than_the_table_where_its_threshold_is_raised_to_two() -> None:
    """The table has degree 4 and threshold 2 for 10 clients of which 3 drop out. With probability
    C(7, 1) / C(10, 4) = 1/30 a client then keeps one neighbour, who cannot make up two shares."""
    assert hypergeom(10, 7, 4).cdf(1) == pytest.approx(1 / 30)
    assert find_degree(10, 0, 3) == Degree(6, 2)


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[int, int, int]:
    clients = draw(st.integers(20, 1500))
    colluders = draw(st.integers(0, clients // 4))
    return clients, colluders, draw(st.integers(0, clients // 3 * 2))


@settings(deadline=None, max_examples=60)
@given(cohorts())
def test_both_probabilities_are_small_and_one_neighbour_less_would_not_do(
    cohort: tuple[int, int, int],
) -> None:
    """The conditions in floating point, with a margin for its errors."""
    clients, colluders, dropouts = cohort
    try:
        found = find_degree(clients, colluders, dropouts)
    except ValueError:
        return
    assert found.degree % 2 == 0
    assert 2 <= found.threshold <= found.degree < clients - 1
    assert found.threshold in safe_thresholds(*cohort, found.degree, margin=1 + 1e-6)
    if found.degree > 2:
        assert not safe_thresholds(*cohort, found.degree - 2, margin=1 - 1e-6)


def safe_thresholds(
    clients: int, colluders: int, dropouts: int, degree: int, margin: float
) -> set[int]:
    """Thresholds for which all three probabilities are below `margin` times their bounds."""
    bad = colluders + dropouts
    if bad >= degree:
        log_cut = (
            math.log(clients * (clients - degree - 1) / 2)
            + gammaln(bad + 1)
            + gammaln(clients - degree + 1)
            - gammaln(clients + 1)
            - gammaln(bad - degree + 1)
        )
        if log_cut >= -41 * math.log(2) + math.log(margin):
            return set()
    thresholds = np.arange(2, degree + 1)
    held = hypergeom.sf(thresholds - 1, clients, colluders, degree)
    stuck = hypergeom.cdf(thresholds - 1, clients, clients - dropouts, degree)
    fits = (held <= margin * 2.0**-41 / clients) & (stuck <= margin * 2.0**-20 / clients)
    return set(thresholds[fits].tolist())


@settings(deadline=None)
@given(cohorts())
def test_a_plan_holds_for_every_cohort_that_may_come(cohort: tuple[int, int, int]) -> None:
    clients, colluders, dropouts = cohort
    fewest = clients - dropouts
    try:
        found = find_degree(clients, colluders, dropouts, fewest=fewest)
    except ValueError:
        return
    for present in {fewest, min(fewest + 1, clients), (fewest + clients) // 2, clients}:
        if present <= found.degree + 1:
            assert found.threshold > colluders
        else:
            assert stays_connected(present, colluders + present - fewest, found.degree)
            assert colluders_stay_below(present, colluders, found.degree, found.threshold)


@pytest.mark.parametrize(
    ("clients", "colluders", "dropouts"),
    [(0, 0, 0), (1, 0, 0), (100, -1, 0), (100, 0, -1), (100, 50, 50), (100, 0, 100)],
)
def test_senseless_counts_are_refused(clients: int, colluders: int, dropouts: int) -> None:
    with pytest.raises(ValueError, match=r"need|must leave"):
        find_degree(clients, colluders, dropouts)


def test_where_nearly_everybody_is_bad_only_the_complete_graph_is_left() -> None:
    with pytest.raises(ValueError, match="complete graph"):
        find_degree(20, 9, 9)
