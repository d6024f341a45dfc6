"""What a federation promises before a round begins: all that an epsilon follows from."""

import math
from dataclasses import dataclass
from enum import StrEnum

from privacy.discrete_gaussian import LARGEST_SIGMA

RING = 2**32
"""Size of the ring in which masked vectors are added."""

SMALLEST_SHARE_SIGMA = 2.0
"""Below this many grid units a sum of discrete Gaussians is visibly not one (DDG, Theorem 1)."""

CUT_PROBABILITY = 2.0**-40
"""What the cap on rows may add to delta in one participation."""


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
    """The public parameters of all rounds of one plan; a senseless one cannot be made.

    Attributes:
        mode: who is protected and who adds the noise.
        dimension: coordinates of the trained vector (d).
        clip_norm: largest L2 norm of a row, in the units of the vector (C).
        grid: width of the grid that rows are rounded to, in the units of the vector (gamma);
            C / (100 sqrt(d)) costs one per cent of sensitivity.
        noise_multiplier: standard deviation of the noise over one row's sensitivity (z).
        cohort: nodes invited to each round (n).
        min_survivors: fewest nodes whose sum is ever opened (t_min).
        colluders: survivors that may tell the coordinator their noise shares (c).
        rounds: rounds of the plan (T).
        max_participations: rounds that one node may take part in (p).
        delta: of the statement, at most one over the number of protected units.
        sampling_rate: probability that a subject is in a round of its node (q); 1 in mode
            `client`, where nothing is sampled in secret.
        row_cap: most rows of one node in a round, at least `smallest_row_cap`; None in `client`.
        planned_rows: an admin's public estimate of all subjects, never corrected from data, and
            the most subjects that any one node enters; None in `client`.

    Raises:
        ValueError: the plan makes no sense, or no proof covers it.
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

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_people()
        self._check_rows()
        self._check_noise()

    @property
    def sensitivity_squared(self) -> int:
        """Largest squared L2 norm of a rounded row, in squared grid units (Delta2^2).

        (C/gamma + sqrt(d))^2, since rounding moves each coordinate by less than one unit (DDG,
        section 4.1). The encoder enforces this very integer, so no rounding of it weakens a bound.
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
        """Standard deviation of the noise that each node adds, in grid units (sigma_l).

        Sized for the survivors that are honest, not for the cohort; the whole in mode `local`.
        """
        return self.sigma / math.sqrt(self.shares_of_sigma)

    @property
    def shares_of_sigma(self) -> int:
        """Number of nodes' shares that together have the standard deviation `sigma`."""
        return 1 if self.mode is Mode.LOCAL else self.min_survivors - self.colluders

    @property
    def rows_per_node(self) -> int:
        """Most rows that one node adds in a round."""
        return 1 if self.row_cap is None else self.row_cap

    @property
    def divisor(self) -> float:
        """The public number that the opened sum is divided by: never a count of what took part.

        The cohort in mode `client`, otherwise the expected number of sampled subjects.
        """
        if self.planned_rows is None:
            return float(self.cohort)
        return self.sampling_rate * self.planned_rows

    @property
    def noise_to_signal(self) -> float:
        """L2 norm of the noise in the decoded mean over C, the largest norm of that mean.

        For a round in which all invited nodes survive. With every share needed this is
        z sqrt(d) / n up to the rounding's inflation: noise and signal break even at
        d = (n / z)^2. Training works below about 1; it needs fewer coordinates, more nodes or
        more rows otherwise.
        """
        noise = self.share_sigma * math.sqrt(self.cohort * self.dimension) * self.grid
        return noise / self.divisor / self.clip_norm

    @property
    def largest_share_sigma(self) -> float:
        """The `share_sigma` above which a sum could wrap around the ring or a table not be built.

        With every coordinate of every row at its largest, twelve standard deviations of the sum
        of all shares must still fit: beyond them lies less than 2^-100 a coordinate.
        """
        room = RING / 2 - self.cohort * self.rows_per_node * self.sensitivity
        return min(room / (12 * math.sqrt(self.cohort)), LARGEST_SIGMA)

    def _check_numbers(self) -> None:
        if not isinstance(self.mode, Mode):
            raise ValueError(f"mode must be one of {[m.value for m in Mode]}, not {self.mode!r}")
        counts = {
            name: getattr(self, name)
            for name in ("dimension", "cohort", "min_survivors", "rounds", "max_participations")
        }
        counts |= {
            name: getattr(self, name)
            for name in ("row_cap", "planned_rows")
            if getattr(self, name) is not None
        }
        for name, value in counts.items():
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive whole number, not {value!r}")
        if type(self.colluders) is not int or self.colluders < 0:
            raise ValueError(f"colluders must be a whole number, 0 or more, not {self.colluders!r}")
        for name in ("clip_norm", "grid", "noise_multiplier", "delta", "sampling_rate"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, not {value!r}")
        if self.clip_norm / self.grid >= RING / 2:
            raise ValueError(
                f"a row of norm {self.clip_norm} does not fit a ring of 2^32 with a grid of "
                f"{self.grid}: take a coarser grid"
            )

    def _check_people(self) -> None:
        if self.min_survivors > self.cohort:
            raise ValueError(
                f"min_survivors is {self.min_survivors}, but only {self.cohort} nodes are invited"
            )
        if self.colluders >= self.min_survivors:
            raise ValueError(
                f"with {self.colluders} colluders among {self.min_survivors} survivors nobody "
                "honest may be left to add noise: min_survivors must exceed colluders"
            )
        if self.max_participations > self.rounds:
            raise ValueError(
                f"max_participations is {self.max_participations}, but there are only "
                f"{self.rounds} rounds"
            )

    def _check_rows(self) -> None:
        if self.mode is Mode.CLIENT:
            if (self.sampling_rate, self.row_cap, self.planned_rows) != (1.0, None, None):
                raise ValueError(
                    "mode client takes sampling_rate 1, no row_cap and no planned_rows: sampling "
                    "nodes is not secret and amplifies nothing"
                )
            units, what = self.cohort, "cohort"
        else:
            if self.row_cap is None or self.planned_rows is None:
                raise ValueError(f"mode {self.mode} needs row_cap and planned_rows")
            if self.sampling_rate > 1:
                raise ValueError(f"sampling_rate must lie in (0, 1], not {self.sampling_rate}")
            smallest = smallest_row_cap(self.planned_rows, self.sampling_rate)
            if self.row_cap < smallest:
                raise ValueError(
                    f"row_cap {self.row_cap} would be reached too often for the sampling bound: "
                    f"{self.planned_rows} planned rows at rate {self.sampling_rate} need a cap of "
                    f"at least {smallest}"
                )
            units, what = self.planned_rows, "planned_rows"
        if self.delta > 1 / units:
            raise ValueError(f"delta {self.delta} is above 1/{what} = {1 / units:.3g}")

    def _check_noise(self) -> None:
        if self.share_sigma < SMALLEST_SHARE_SIGMA:
            raise ValueError(
                f"each noise share would have a standard deviation of {self.share_sigma:.3g} grid "
                f"units; the bound on their sum needs {SMALLEST_SHARE_SIGMA}: take a finer grid or "
                "more noise"
            )
        if self.share_sigma > self.largest_share_sigma:
            raise ValueError(
                f"each noise share would have a standard deviation of {self.share_sigma:.4g} grid "
                f"units, and the ring of 2^32 and the noise table have room for "
                f"{max(0.0, self.largest_share_sigma):.4g}: take a coarser grid"
            )


def smallest_row_cap(planned_rows: int, sampling_rate: float) -> int:
    """The least cap on a node's rows for which its sampling may be accounted as Poisson.

    A cut batch is not a Poisson sample: a row can then displace another. What holds is this. The
    unit's neighbour is its zero row, which is sampled and counted like any other, so how many of
    the *other* rows are sampled has the same distribution on both sides and is independent of
    whether the unit is. If fewer than the cap are, nothing is cut either way, and the unit enters
    by an independent coin of rate q: Poisson sampling, given the others. Otherwise everything is
    taken as revealed. By a union bound delta grows by the probability of that event in each
    participation, and not by e^epsilon times it.

    At most `planned_rows` - 1 others are sampled, so the event is Bin(planned_rows - 1, q) >= cap,
    which Chernoff's bound exp(-m KL(cap/m || q)) puts below `CUT_PROBABILITY`.
    """
    others = planned_rows - 1
    low, high = max(1, math.ceil(others * sampling_rate)), planned_rows
    while low < high:
        middle = (low + high) // 2
        if _chernoff(others, sampling_rate, middle) <= CUT_PROBABILITY:
            high = middle
        else:
            low = middle + 1
    return high


def _chernoff(trials: int, rate: float, count: int) -> float:
    """Bound on P(Bin(trials, rate) >= count), for count >= trials * rate."""
    if count > trials:
        return 0.0
    share = count / trials
    if rate == 1.0 or share <= rate:
        return 1.0
    divergence = share * math.log(share / rate)
    if share < 1:
        divergence += (1 - share) * (math.log1p(-share) - math.log1p(-rate))
    return math.exp(-trials * divergence)
