"""The two things that may be claimed, and what each of them needs.

Secure aggregation hides each input behind the sum over the survivors. How many honest inputs that
sum has in it, against whom and on what conditions, is the threat model. A round names one. What it
cannot promise is refused when the round is configured, when the cohort is known and when the
survivors are known; nothing is weakened silently.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from federation.secagg.degree import colluders_stay_below, find_degree, stays_connected
from federation.secagg.graph import LARGEST_COMPLETE
from federation.secagg.refusal import Reason, Refusal

LARGEST_COHORT = 2**16 - 1
FEWEST_HONEST = 2
"""A sum with one honest input in it would be that input."""


class ModelKind(IntEnum):
    """How a round's configuration names its threat model."""

    HONEST_BUT_CURIOUS = 1
    ACTIVE = 2


@dataclass(frozen=True)
class ThreatModel(ABC):
    """What both models have; a round uses `HonestButCurious` or `Active`.

    Attributes:
        clients: invited to the round (n).
        min_survivors: fewest clients whose sum is ever opened (t_min).
        colluders: clients that tell the server all they see, at most (c).
        degree: neighbours of each client (k); `clients` - 1 is the complete graph.
        threshold: shares that open one secret of a client, and signatures that a client wants to
            see under the survivor list (t).

    Raises:
        Refusal: UNSAFE_PARAMETERS, the model cannot promise anything for these numbers.
    """

    clients: int
    min_survivors: int
    colluders: int
    degree: int
    threshold: int

    kind: ClassVar[ModelKind]

    def __post_init__(self) -> None:
        if not 0 <= self.colluders <= self.min_survivors - FEWEST_HONEST:
            raise _unsafe(
                f"{self.min_survivors} survivors with {self.colluders} colluders leave fewer than "
                f"{FEWEST_HONEST} honest inputs in the sum"
            )
        if not self.min_survivors <= self.clients <= LARGEST_COHORT:
            raise _unsafe(f"{self.clients} clients: {self.min_survivors} to {LARGEST_COHORT}")
        if not self.is_complete and self.degree not in range(2, self.clients, 2):
            raise _unsafe(
                f"degree {self.degree} is neither {self.clients - 1} nor even and smaller"
            )
        most = min(self.min_survivors, self.degree + 1)
        if not 2 <= self.threshold <= most:
            raise _unsafe(f"threshold {self.threshold} does not lie between 2 and {most}")
        self._check_cohort(self.clients, self.clients)

    @property
    def is_complete(self) -> bool:
        """Whether everybody is everybody's neighbour."""
        return self.degree == self.clients - 1

    def check_cohort(self, cohort: int, confirmed: int) -> None:
        """Refuse a cohort for which the guarantee would not hold.

        Args:
            cohort: clients that advertised keys (n of the papers from here on).
            confirmed: those among them, the asking client included, whose fingerprints its owner
                has confirmed.

        Raises:
            Refusal: COHORT_TOO_SMALL, UNSAFE_PARAMETERS or UNCONFIRMED_PEERS.
        """
        if not self.min_survivors <= cohort <= self.clients:
            raise Refusal(
                Reason.COHORT_TOO_SMALL,
                f"{cohort} clients advertised keys; {self.min_survivors} to {self.clients} may",
            )
        self._check_cohort(cohort, confirmed)

    def check_survivors(self, survivors: int, confirmed: int) -> None:
        """Refuse a survivor list for which the guarantee would not hold; counts as above.

        Raises:
            Refusal: TOO_FEW_SURVIVORS or UNCONFIRMED_PEERS.
        """
        if survivors < self.min_survivors:
            raise Refusal(
                Reason.TOO_FEW_SURVIVORS,
                f"{survivors} clients survived; the fewest are {self.min_survivors}",
            )
        self._check_survivors(confirmed)

    @abstractmethod
    def _check_cohort(self, cohort: int, confirmed: int) -> None: ...

    @abstractmethod
    def _check_survivors(self, confirmed: int) -> None: ...


class HonestButCurious(ThreatModel):
    """A server that follows the protocol and keeps all it sees, with at most c clients telling it
    all they see.

    Guarantee: of the other clients' inputs they learn the sum over the survivors and nothing else.
    At least t_min survivors are in it, hence t_min - c honest inputs. In the complete graph this
    rests on the cryptography alone; in an incomplete one it may also fail with probability 2^-40
    (Bonawitz et al. 2017, section 6; Bell et al. 2020, section 3).

    Conditions: at most c clients collude, and the server does not lie, be it about keys, about who
    dropped out or about who is who. The survivor list is signed and checked in this model too: a
    list that is too short or has two versions is refused, but no more is claimed for it.

    Thresholds: more than c shares open a secret. In the complete graph t is a majority where t_min
    allows. The incomplete graph must meet `degree.stays_connected` and
    `degree.colluders_stay_below` for the cohort that advertised keys: colluders may all come while
    honest clients stay away.
    """

    kind = ModelKind.HONEST_BUT_CURIOUS

    @classmethod
    def choose(cls, clients: int, min_survivors: int, colluders: int) -> "HonestButCurious":
        """Complete up to 300 clients, above that the smallest degree that is safe for every cohort
        from `min_survivors` to `clients`.

        Raises:
            Refusal: UNSAFE_PARAMETERS.
        """
        majority = max(colluders + 1, min(min_survivors, clients // 2 + 1))
        complete = cls(clients, min_survivors, colluders, clients - 1, majority)
        if clients <= LARGEST_COMPLETE:
            return complete
        try:
            found = find_degree(clients, colluders, clients - min_survivors, fewest=min_survivors)
        except ValueError:
            return complete
        return cls(clients, min_survivors, colluders, found.degree, found.threshold)

    def _check_cohort(self, cohort: int, confirmed: int) -> None:
        if self.degree >= cohort - 1:
            if self.colluders >= self.threshold:
                raise _unsafe(f"{self.colluders} colluders hold {self.threshold} shares")
            return
        lost = self.colluders + cohort - self.min_survivors
        if not stays_connected(cohort, lost, self.degree):
            raise _unsafe(
                f"losing {lost} of {cohort} clients may cut a graph of degree {self.degree}"
            )
        if not colluders_stay_below(cohort, self.colluders, self.degree, self.threshold):
            raise _unsafe(
                f"a client may have {self.threshold} of {self.colluders} colluders around it"
            )

    def _check_survivors(self, confirmed: int) -> None:
        """Who is who rests on the server's word in this model."""


class Active(ThreatModel):
    """A server that lies in any way it likes, with at most c of the confirmed clients on its side
    and every unconfirmed one.

    Guarantee: it opens at most one sum that has a given client's input in it, and that sum has the
    inputs of at least t_min confirmed clients in it, hence t_min - c honest ones (Bonawitz et al.
    2017, section 6, with the consistency round of figure 4). It may make the round fail, leave
    clients out, and learn who took part.

    Conditions: the owner has compared the fingerprints of the confirmed peers out of band. The
    server may be the authority on who is enrolled, and enrol inventions of its own; those count as
    colluders here. A machine that is cloned, or put back to an older state together with everything
    that would tell, is not covered.

    Thresholds: complete graph only, since a server that lies can cut a sparse one; t at least
    floor(2n/3) + 1 and c < n/3; in the cohort that advertised keys, 2t > n + c + unconfirmed, so
    that two different survivor lists cannot both find t signers; at least t_min confirmed clients
    in the cohort and among the survivors.
    """

    kind = ModelKind.ACTIVE

    @classmethod
    def choose(cls, clients: int, min_survivors: int, colluders: int) -> "Active":
        """The complete graph with the smallest threshold.

        Raises:
            Refusal: UNSAFE_PARAMETERS, for instance `min_survivors` below two thirds.
        """
        return cls(clients, min_survivors, colluders, clients - 1, 2 * clients // 3 + 1)

    def _check_cohort(self, cohort: int, confirmed: int) -> None:
        if not self.is_complete:
            raise _unsafe("against an active server the graph must be complete")
        if self.threshold < 2 * self.clients // 3 + 1:
            raise _unsafe(
                f"against an active server {self.clients} clients need a threshold of "
                f"{2 * self.clients // 3 + 1}, not {self.threshold}"
            )
        if 3 * self.colluders >= self.clients:
            raise _unsafe(f"{self.colluders} of {self.clients} colluders are not below a third")
        strangers = cohort - confirmed
        if 2 * self.threshold <= cohort + self.colluders + strangers:
            raise Refusal(
                Reason.UNCONFIRMED_PEERS,
                f"{strangers} of {cohort} clients are unconfirmed; with {self.colluders} colluders "
                f"a threshold of {self.threshold} does not cover them",
            )
        self._check_survivors(confirmed)

    def _check_survivors(self, confirmed: int) -> None:
        if confirmed < self.min_survivors:
            raise Refusal(
                Reason.UNCONFIRMED_PEERS,
                f"{confirmed} confirmed clients are left; the fewest are {self.min_survivors}",
            )


def _unsafe(detail: str) -> Refusal:
    return Refusal(Reason.UNSAFE_PARAMETERS, detail)
