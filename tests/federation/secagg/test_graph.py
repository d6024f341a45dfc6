"""The neighbour graph: the same for everybody, regular, and not the server's to choose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.secagg.graph import NeighbourGraph

members = st.lists(st.integers(0, 2**16 - 1), min_size=2, max_size=60, unique=True)


@given(members, st.integers(1, 40).map(lambda half: 2 * half), st.binary(min_size=32, max_size=32))
def test_regular_symmetric_and_without_loops(ids: list[int], degree: int, seed: bytes) -> None:
    graph = NeighbourGraph(ids, degree, seed)
    for index in ids:
        neighbours = graph.neighbours(index)
        assert index not in neighbours
        assert len(neighbours) == min(degree, len(ids) - 1)
        assert neighbours <= set(ids)
        assert all(index in graph.neighbours(other) for other in neighbours)


@given(st.integers(2, 20).map(lambda half: 2 * half), st.binary(min_size=32, max_size=32))
def test_only_half_the_degree_on_either_side_can_cut_it(degree: int, seed: bytes) -> None:
    """A Harary graph of degree k stays connected when any k - 1 clients go."""
    ids = list(range(2 * degree + 3))
    graph = NeighbourGraph(ids, degree, seed)
    gone = set(ids[: degree - 1])
    left = [i for i in ids if i not in gone]
    reached, frontier = {left[0]}, [left[0]]
    while frontier:
        for other in graph.neighbours(frontier.pop()) - gone - reached:
            reached.add(other)
            frontier.append(other)
    assert reached == set(left)


def test_depends_on_every_bit_of_the_hash_and_not_on_the_order_of_members() -> None:
    ids = list(range(100))

    def edges(ids: list[int], seed: bytes) -> dict[int, frozenset[int]]:
        graph = NeighbourGraph(ids, 10, seed)
        return {i: graph.neighbours(i) for i in ids}

    plain = edges(ids, bytes(32))
    assert edges(ids[::-1], bytes(32)) == plain
    for byte in range(32):
        assert edges(ids, bytes(byte) + b"\x01" + bytes(31 - byte)) != plain


def test_order_of_the_ring_is_uniform() -> None:
    """In 2,000 graphs of degree 2 on 11 clients, each pair is joined in about one of five."""
    together = sum(
        1 in NeighbourGraph(range(11), 2, i.to_bytes(32)).neighbours(0) for i in range(2000)
    )
    assert abs(together - 400) < 6 * (2000 * 0.2 * 0.8) ** 0.5


def test_an_odd_degree_and_a_stranger_are_errors() -> None:
    with pytest.raises(ValueError, match="even"):
        NeighbourGraph(range(10), 3, bytes(32))
    with pytest.raises(KeyError):
        NeighbourGraph(range(10), 4, bytes(32)).neighbours(10)
