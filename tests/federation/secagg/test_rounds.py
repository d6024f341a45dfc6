"""The sum is exact whoever drops out whenever, or there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.secagg.refusal import Reason, Refusal
from federation.secagg.server.machine import Server
from federation.secagg.server.stage import Stage
from federation.secagg.threat_model import HonestButCurious
from tests.federation.secagg.parties import Round, active, because, config, curious


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Round, list[set[int]], bool]:
    """A small round, who falls silent in which of its five steps, and whether everybody restarts
    between any two messages."""
    clients = draw(st.integers(3, 12))
    fewest = draw(st.integers(2, clients))
    if draw(st.booleans()) and fewest >= 2 * clients // 3 + 1:
        model = active(clients, fewest)
    else:
        model = curious(clients, fewest, draw(st.integers(0, fewest - 2)))
    leaves = st.one_of(st.none(), st.integers(0, 4))
    when = draw(st.lists(leaves, min_size=clients, max_size=clients))
    silent = [{i for i, step in enumerate(when) if step == s} for s in range(5)]
    dimension = draw(st.sampled_from([1, 3, 4, 5, 64, 1000, 1024]))
    return Round(config(model, dimension)), silent, draw(st.booleans())


@settings(deadline=None, max_examples=60)
@given(rounds())
def test_sum_is_exact_or_refused(example: tuple[Round, list[set[int]], bool]) -> None:
    played, silent, restarts = example
    model = played.config.threat_model
    sent = set(range(model.clients)) - silent[0] - silent[1] - silent[2]
    left = sent - silent[3]

    def restart() -> None:
        if played.server.stage not in (Stage.FAILED, Stage.FINISHED):
            played.server = Server.restore(played.server.save(), played.config)
        for party in played.parties:
            party.reload()

    if restarts and model.clients <= 6:
        played.between = restart
    enough = (
        len(sent) >= model.min_survivors
        and len(left) >= model.threshold
        and len(left - silent[4]) >= model.threshold
    )
    if not enough:
        with pytest.raises(Refusal):
            played.play(silent)
        assert played.server.stage is Stage.FAILED
        return
    aggregate = played.play(silent)
    assert aggregate.survivors == tuple(sorted(sent))
    assert np.array_equal(aggregate.total, played.sum_of(sent))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_million_words_with_drop_outs_in_every_step(workers: int) -> None:
    played = Round(config(curious(9, 5), 2**20))
    silent = [{0}, {1}, {2}, {3}, set[int]()]
    gone: set[int] = set()
    for stage in range(5):
        gone |= silent[stage]
        played.step(stage, gone)
    aggregate = played.server.open(workers)
    assert aggregate.survivors == (3, 4, 5, 6, 7, 8)
    assert np.array_equal(aggregate.total, played.sum_of(aggregate.survivors))


@pytest.mark.long
def test_400_clients_in_an_incomplete_graph() -> None:
    model = HonestButCurious.choose(400, 360, 20)
    assert not model.is_complete
    played = Round(config(model, 100))
    silent = [{*range(0, 10)}, {*range(10, 20)}, {*range(20, 32)}, {40, 41}, {50}]
    aggregate = played.play(silent)
    assert aggregate.survivors == tuple(range(32, 400))
    assert np.array_equal(aggregate.total, played.sum_of(aggregate.survivors))


def test_small_incomplete_graph_loses_a_third() -> None:
    model = HonestButCurious(12, 8, 0, degree=6, threshold=2)
    played = Round(config(model, 1000))
    aggregate = played.play([{0}, {5}, {6, 7}, set(), set()])
    assert aggregate.survivors == (1, 2, 3, 4, 8, 9, 10, 11)
    assert np.array_equal(aggregate.total, played.sum_of(aggregate.survivors))


def test_largest_words_wrap_around() -> None:
    played = Round(config(curious(3), 8))
    for party in played.parties:
        party.vector = np.full(8, 2**32 - 1, dtype=np.uint32)
    assert played.play().total.tolist() == [2**32 - 3] * 8


def test_a_sum_longer_than_any_honest_one_is_refused() -> None:
    """The centred representative of 2^32 - 3 is -3: three clients with -1 have norm 3 sqrt(4)."""
    for bound, fits in ((6, True), (5, False)):
        played = Round(config(curious(3), 4, max_sum_norm=bound))
        for party in played.parties:
            party.vector = np.full(4, 2**32 - 1, dtype=np.uint32)
        if fits:
            assert played.play().total.tolist() == [2**32 - 3] * 4
        else:
            with pytest.raises(Refusal, check=because(Reason.SUM_OUT_OF_RANGE)):
                played.play()


def test_masked_inputs_look_nothing_like_the_vectors() -> None:
    """Zeros masked by two parties: neither message nor their sum shows a zero word."""
    played = Round(config(curious(3), 4096))
    for party in played.parties:
        party.vector = np.zeros(4096, dtype=np.uint32)
    outbox = played.until(2)
    words = [
        np.frombuffer(played.parties[i].answer(2, outbox[i])[-4 * 4096 :], ">u4") for i in range(3)
    ]
    for masked in (*words, sum(words)):
        assert np.count_nonzero(masked) > 4090
        assert abs(float(np.mean(masked)) / 2**31 - 1) < 0.1
