"""Who exchanges masks and shares with whom: computed by every party, chosen by none.

Complete where the degree reaches everybody. Otherwise the Harary graph of Bell et al. (eprint
2020/704, section 3): clients on a ring in a random order, each joined to the degree/2 nearest on
either side. The order follows from the hash of all advertised keys, so a client recomputes it and
the server cannot hand out another. Whoever advertises last could still try many keys and keep the
one with the order it likes; `threat_model` therefore allows this graph to an honest server only.
"""

from collections.abc import Sequence
from functools import cached_property

from federation.secagg.primitives import Label, digest, index_bytes

LARGEST_COMPLETE = 300
"""Most clients for which the complete graph is the default."""


class NeighbourGraph:
    """An undirected graph without loops on roster indices."""

    def __init__(self, members: Sequence[int], degree: int, directory_hash: bytes) -> None:
        """
        Args:
            members: distinct roster indices, at least two.
            degree: even, or at least the number of members less one for the complete graph.
            directory_hash: hash of the round and of all advertised keys.
        """
        self.members = tuple(sorted(members))
        self.is_complete = degree >= len(self.members) - 1
        if not self.is_complete and degree % 2:
            raise ValueError(f"the degree of a Harary graph is even, not {degree}")
        self._reach = degree // 2
        self._directory_hash = directory_hash

    def neighbours(self, index: int) -> frozenset[int]:
        """The members that `index` exchanges masks and shares with.

        Raises:
            KeyError: `index` is not a member.
        """
        position = self._positions[index]
        if self.is_complete:
            return frozenset(self.members) - {index}
        ring = self._ring
        steps = (*range(-self._reach, 0), *range(1, self._reach + 1))
        return frozenset(ring[(position + step) % len(ring)] for step in steps)

    @cached_property
    def _ring(self) -> tuple[int, ...]:
        """Sorting by a hash is a random order with neither bias nor bookkeeping."""
        return tuple(
            sorted(
                self.members,
                key=lambda i: digest(Label.GRAPH, self._directory_hash, index_bytes(i)),
            )
        )

    @cached_property
    def _positions(self) -> dict[int, int]:
        order = self.members if self.is_complete else self._ring
        return {index: position for position, index in enumerate(order)}
