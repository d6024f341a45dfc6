"""What each threat model accepts and what it refuses rather than weaken."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.secagg.degree import find_degree
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.threat_model import Active, HonestButCurious
from tests.federation.secagg.parties import because


def test_the_graph_is_complete_up_to_300_clients() -> None:
    assert HonestButCurious.choose(300, 270, 15).degree == 299
    sparse = HonestButCurious.choose(301, 270, 15)
    assert sparse.degree < 300
    assert not sparse.is_complete


def test_the_sparse_graph_is_the_finders() -> None:
    """36 and 19 is what the finder gives for rates of .05 and .10 (one of its published rows has
    .05 and .05: 30 and 17)."""
    chosen = HonestButCurious.choose(1000, 900, 50)
    assert (chosen.degree, chosen.threshold) == (36, 19)
    found = find_degree(1000, 50, 100, fewest=900)
    assert (found.degree, found.threshold) == (36, 19)


def test_the_complete_graph_where_no_sparse_one_is_safe() -> None:
    assert HonestButCurious.choose(310, 160, 158).is_complete


@settings(deadline=None)
@given(st.integers(2, 400), st.data())
def test_what_is_chosen_keeps_colluders_below_the_threshold_and_can_be_opened(
    clients: int, data: st.DataObject
) -> None:
    fewest = data.draw(st.integers(2, clients))
    colluders = data.draw(st.integers(0, fewest - 2))
    chosen = HonestButCurious.choose(clients, fewest, colluders)
    assert 2 <= chosen.threshold <= fewest
    if chosen.is_complete:
        assert chosen.threshold > colluders
    for cohort in {fewest, clients}:
        chosen.check_cohort(cohort, 0)
    chosen.check_survivors(fewest, 0)


@given(st.integers(3, 400), st.data())
def test_against_an_active_server_two_thirds_must_agree(clients: int, data: st.DataObject) -> None:
    """Bonawitz et al. 2017, section 6: t >= floor(2n/3) + 1 and fewer than n/3 collude."""
    threshold = 2 * clients // 3 + 1
    fewest = data.draw(st.integers(threshold, clients))
    colluders = data.draw(st.integers(0, min(fewest - 2, (clients - 1) // 3)))
    chosen = Active.choose(clients, fewest, colluders)
    assert (chosen.degree, chosen.threshold) == (clients - 1, threshold)
    chosen.check_cohort(clients, clients)
    chosen.check_cohort(fewest, fewest)
    with pytest.raises(Refusal, check=because(Reason.UNCONFIRMED_PEERS)):
        chosen.check_cohort(clients, fewest - 1)
    with pytest.raises(Refusal, check=because(Reason.UNCONFIRMED_PEERS)):
        chosen.check_survivors(clients, fewest - 1)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((9, 8, 2, 8, 6), "threshold of 7"),
        ((9, 8, 3, 8, 7), "below a third"),
        ((9, 6, 0, 8, 7), "between 2 and 6"),
        ((12, 10, 0, 4, 3), "complete"),
        ((12, 10, 0, 10, 9), "complete"),
    ],
)
def test_an_active_model_that_promises_too_much(
    arguments: tuple[int, int, int, int, int], why: str
) -> None:
    with pytest.raises(Refusal, match=why) as caught:
        Active(*arguments)
    assert caught.value.reason is Reason.UNSAFE_PARAMETERS


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((10, 6, 4, 9, 4), "4 colluders hold 4 shares"),
        ((10, 6, 5, 9, 6), "fewer than 2 honest"),
        ((10, 1, 0, 9, 2), "fewer than 2 honest"),
        ((10, 6, -1, 9, 6), "fewer than 2 honest"),
        ((10, 11, 0, 9, 6), "11 to"),
        ((10, 6, 0, 9, 7), "between 2 and 6"),
        ((10, 6, 0, 9, 1), "between 2 and 6"),
        ((12, 10, 0, 5, 3), "neither 11 nor even"),
        ((12, 10, 0, 12, 3), "neither 11 nor even"),
        ((12, 10, 0, 0, 2), "neither 11 nor even"),
        ((1000, 900, 50, 18, 10), "may cut a graph of degree 18"),
        ((1000, 900, 50, 36, 18), "may have 18 of 50 colluders"),
        ((2**16, 2**16, 0, 2**16 - 1, 2), "65536 clients"),
    ],
)
def test_a_curious_model_that_promises_too_much(
    arguments: tuple[int, int, int, int, int], why: str
) -> None:
    with pytest.raises(Refusal, match=why) as caught:
        HonestButCurious(*arguments)
    assert caught.value.reason is Reason.UNSAFE_PARAMETERS


def test_cohorts_and_survivors_outside_the_plan() -> None:
    model = HonestButCurious.choose(10, 6, 2)
    for cohort in (5, 11):
        with pytest.raises(Refusal, check=because(Reason.COHORT_TOO_SMALL)):
            model.check_cohort(cohort, 0)
    with pytest.raises(Refusal, check=because(Reason.TOO_FEW_SURVIVORS)):
        model.check_survivors(5, 5)


def test_unconfirmed_clients_count_as_colluders() -> None:
    """t = 7 of 10: 2t > n + c + unconfirmed leaves three for strangers and colluders together."""
    assert Active.choose(10, 7, 0).check_cohort(10, 7) is None
    with pytest.raises(Refusal, check=because(Reason.UNCONFIRMED_PEERS)):
        Active.choose(10, 7, 1).check_cohort(10, 7)
    Active.choose(10, 7, 1).check_cohort(10, 8)
    Active.choose(10, 7, 3).check_cohort(10, 10)
    with pytest.raises(Refusal, check=because(Reason.UNCONFIRMED_PEERS)):
        Active.choose(10, 7, 3).check_cohort(10, 9)
