"""What a federation promises before a round begins: all that an epsilon follows from."""

import math
from dataclasses import dataclass
from enum import StrEnum

RING = 2**32
"""Size of the ring in which masked vectors are added."""

SMALLEST_SHARE_SIGMA = 2.0
"""Below this many grid units a sum of discrete Gaussians is visibly not one (DDG, Theorem 1)."""


class Mode(StrEnum):
    """Who is protected and who adds the noise."""

    CLIENT = "client"
    """The unit is a node; the nodes' noise shares add up to the whole."""
    DOCUMENT = "document"
    """The unit is a subject; the nodes' noise shares add up to the whole."""
    LOCAL = "local"
    """The unit is a subject; every node adds the whole noise itself."""


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """The public parameters of all rounds of one plan.

    Attributes:
        mode: who is protected and who adds the noise.
        dimension: coordinates of the trained vector (d).
        clip_norm: largest L2 norm of a row, in the units of the vector (C).
        grid: width of the grid that rows are rounded to, in the units of the vector (gamma).
        noise_multiplier: standard deviation of the noise over one row's sensitivity (z).
        cohort: nodes invited to each round (n).
        min_survivors: fewest nodes whose sum is ever opened (t_min).
        colluders: nodes that may share all they know with the coordinator (c).
        rounds: rounds of the plan (T).
        max_participations: rounds that one node may take part in (p).
        delta: of the statement.
        sampling_rate: probability that a subject is in a round of its node (q); 1 in mode `client`.
        row_cap: most rows of one node in a round; None in mode `client`.
        planned_rows: public estimate of all subjects, never corrected from data, and the most
            that any one node enters; None in mode `client`.
    """

    mode: Mode
    dimension: int
    clip_norm: float
    grid: float
    noise_multiplier: float
    cohort: int
    min_survivors: int
    colluders: int
    rounds: int
    max_participations: int
    delta: float
    sampling_rate: float = 1.0
    row_cap: int | None = None
    planned_rows: int | None = None

    @property
    def sensitivity_squared(self) -> int:
        """Largest squared L2 norm of a rounded row, in squared grid units (Delta2^2).

        (C/gamma + sqrt(d))^2: rounding moves each coordinate by less than one unit (DDG, section
        4.1). The encoder enforces this very integer, so that no rounding of it weakens a bound.
        """
        return math.ceil((self.clip_norm / self.grid + math.sqrt(self.dimension)) ** 2)

    @property
    def sensitivity(self) -> float:
        """L2 sensitivity of the sum to one row, in grid units (Delta2)."""
        return math.sqrt(self.sensitivity_squared)

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise that the plan counts on, in grid units."""
        return self.noise_multiplier * self.sensitivity

    @property
    def share_sigma(self) -> float:
        """Standard deviation of the noise that each node adds, in grid units (sigma_l)."""
        if self.mode is Mode.LOCAL:
            return self.sigma
        return self.sigma / math.sqrt(self.min_survivors - self.colluders)

    @property
    def divisor(self) -> float:
        """The public number that the opened sum is divided by: never a count of what took part.

        The cohort in mode `client`, otherwise the expected number of sampled subjects.
        """
        if self.planned_rows is None:
            return float(self.cohort)
        return self.sampling_rate * self.planned_rows
