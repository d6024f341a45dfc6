"""An empirical audit: canaries that show whether the noise that was declared was really there.

The auditor owns m clients or documents, each with a secret random direction, commits to them
before the run, and lets a fair coin decide whether each one contributes its direction or a zero
row. What the released update tells about the coins is then compared with what the plan allows:

* `one_run_lower_bound`: a lower bound on epsilon from one run (Steinke, Nasr and Jagielski,
  arXiv 2305.08846). With r right guesses out of r it cannot exceed
  log(p / (1 - p)), p = significance^(1/r), so it catches bugs; it does not confirm epsilons.
* `cosine_estimate`: an estimate of epsilon from the cosines between canaries and update (Andrew
  et al., arXiv 2302.03098). It is not a bound, and it raises no alarm here.
* `audit` adds two tests that need no attack: the size of a canary's effect, which a wrong
  divisor or a repeated participation changes, and the noise left when the canaries are
  subtracted, which missing noise shares shrink.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, special, stats

from privacy.guarantee import epsilons
from privacy.plan import PrivacyPlan
from privacy.signing import Domain, digest

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Canaries:
    """The auditor's secret: which canaries contribute, and in which directions.

    Attributes:
        included: fair coins, bool, shape (m,).
        directions: unit vectors, float64, shape (m, d).
        nonce: 32 random bytes that keep the commitment from being guessed.
    """

    included: NDArray[np.bool_]
    directions: NDArray[np.float64]
    nonce: bytes = field(repr=False)

    @staticmethod
    def draw(count: int, dimension: int) -> Canaries:
        """`count` canaries, uniform on the unit sphere (2302.03098, algorithm 1), fair coins.

        Raises:
            ValueError: unless `count` and `dimension` are at least 1.
        """
        if count < 1 or dimension < 1:
            raise ValueError("canaries need a positive count and dimension")
        # Seeded by the operating system: who could predict a coin could pass any audit.
        generator = np.random.default_rng(secrets.randbits(256))
        directions = generator.standard_normal((count, dimension))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        coins = np.frombuffer(secrets.token_bytes(count), dtype=np.uint8) < 128
        return Canaries(coins, directions, secrets.token_bytes(32))

    def commitment(self) -> str:
        """H(nonce, m, d, coins, directions): published before the run, opened after it."""
        count, dimension = self.directions.shape
        parts = (
            self.nonce,
            count.to_bytes(8, "big"),
            dimension.to_bytes(8, "big"),
            self.included.astype(np.uint8).tobytes(),
            self.directions.astype("<f8").tobytes(),
        )
        return digest(Domain.CANARIES, b"".join(parts))


class Alarm(Enum):
    """What the audit found to contradict the plan."""

    EPSILON = "the coins can be guessed better than the claimed epsilon allows"
    EFFECT = "a canary moved the update by another amount than the plan says"
    NOISE = "the update holds less noise than the plan says"


@dataclass(frozen=True)
class Claim:
    """What a plan says about one audited run, in the units of the released update.

    Attributes:
        epsilon, delta: the guarantee for one canary over the run.
        effect: how far one included canary moves the update along its direction: clip norm
            times planned participations, over the public divisor.
        noise_std: least standard deviation of the noise in each coordinate.
    """

    epsilon: float
    delta: float
    effect: float
    noise_std: float

    @staticmethod
    def of_plan(plan: PrivacyPlan, rounds: int) -> Claim:
        """The claim about the sum of the updates of `rounds` rounds of a plan.

        Canaries must take part in `plan.max_participations` of them, with rows of the clip norm.
        """
        return Claim(
            epsilon=epsilons(plan).release.value,
            delta=plan.delta,
            effect=plan.clip_norm * plan.max_participations / plan.divisor,
            noise_std=plan.sigma * plan.grid * math.sqrt(rounds) / plan.divisor,
        )


@dataclass(frozen=True)
class AuditReport:
    """The outcome of `audit`.

    Attributes:
        epsilon_lower_bound: holds with probability 1 - significance / 3.
        epsilon_estimate: by cosines; not a bound.
        effect_ratio: measured effect of a canary over the claimed one.
        noise_ratio: measured standard deviation of what is not canary over the claimed one.
        alarms: empty with probability at least 1 - significance if the claim is true.
    """

    epsilon_lower_bound: float
    epsilon_estimate: float
    effect_ratio: float
    noise_ratio: float
    alarms: tuple[Alarm, ...]


def audit(
    canaries: Canaries, update: NDArray[np.float64], claim: Claim, significance: float
) -> AuditReport:
    """Compares one released update, float64 of shape (d,), with what its plan claims.

    Three tests share the false-alarm probability `significance` equally. Contributions of other
    participants may be in the update: they widen the tolerance of the effect and hide missing
    noise, but raise no alarm.

    Raises:
        ValueError: unless the update has the canaries' dimension and at least one canary and one
            abstaining canary exist.
    """
    if update.shape != canaries.directions.shape[1:]:
        raise ValueError(f"an update of shape {update.shape} does not fit the canaries")
    if canaries.included.all() or not canaries.included.any():
        raise ValueError("the coins fell all on one side; draw more canaries")
    level = significance / 3
    alarms = []

    scores = canaries.directions @ update
    guesses, correct = guess(scores, canaries.included, len(scores) // 2)
    bound = one_run_lower_bound(len(scores), guesses, correct, claim.delta, level)
    if bound > claim.epsilon:
        alarms.append(Alarm.EPSILON)

    expected = claim.effect * canaries.directions[canaries.included].sum(axis=0)
    energy = float(expected @ expected)
    effect_ratio = float(expected @ update) / energy
    residual = update - expected
    noise_ratio = float(np.sqrt(np.mean(residual**2))) / claim.noise_std
    # The remainder without the canaries, whatever their effect was, sets the tolerance.
    other_std = float(np.std(update - effect_ratio * expected))
    tolerance = max(other_std, claim.noise_std) / math.sqrt(energy)
    if abs(effect_ratio - 1) > stats.norm.isf(level / 2) * tolerance:
        alarms.append(Alarm.EFFECT)
    if len(update) * noise_ratio**2 < stats.chi2.ppf(level, len(update)):
        alarms.append(Alarm.NOISE)

    cosines = scores[canaries.included] / np.linalg.norm(update)
    estimate = cosine_estimate(cosines, len(update), claim.delta)
    return AuditReport(bound, estimate, effect_ratio, noise_ratio, tuple(alarms))


def guess(
    scores: NDArray[np.float64], included: NDArray[np.bool_], guesses: int
) -> tuple[int, int]:
    """Guesses "included" for the highest scores and "not" for the lowest, half of each.

    `guesses` must be fixed before the scores are seen. Returns the number of guesses made and
    how many of them were right.
    """
    half = guesses // 2
    order = np.argsort(scores)
    correct = included[order[len(order) - half :]].sum() + (~included[order[:half]]).sum()
    return 2 * half, int(correct)


def one_run_lower_bound(
    canaries: int, guesses: int, correct: int, delta: float, significance: float = 0.05
) -> float:
    """The largest epsilon that one run refutes at `significance` (2305.08846, theorem 5.2).

    Args:
        canaries: m, all canaries that had a coin, guessed or not.
        guesses: r, those for which a guess was made.
        correct: v, guesses that were right.
        delta: of the (epsilon, delta) claim.
        significance: probability of refuting a true claim.

    Returns:
        A lower bound on epsilon; 0 when nothing is refuted.

    Raises:
        ValueError: unless 0 <= correct <= guesses <= canaries and the rates are probabilities.
    """
    if not 0 <= correct <= guesses <= canaries or canaries < 1:
        raise ValueError("expected 0 <= correct <= guesses <= canaries, canaries positive")
    if not (0 <= delta < 1 and 0 < significance < 1):
        raise ValueError("delta lies in [0, 1) and significance in (0, 1)")

    def excess(epsilon: float) -> float:
        return _one_run_p_value(canaries, guesses, correct, epsilon, delta) - significance

    if excess(0.0) >= 0:
        return 0.0
    upper = 1.0
    while excess(upper) < 0:
        upper *= 2
    return float(optimize.brentq(excess, 0.0, upper, xtol=1e-9))


def _one_run_p_value(
    canaries: int, guesses: int, correct: int, epsilon: float, delta: float
) -> float:
    """Bound on P[at least `correct` right guesses] under (epsilon, delta)-DP (theorem 5.2)."""
    truth = special.expit(epsilon)
    tail = float(stats.binom.sf(correct - 1, guesses, truth))
    if delta == 0:
        return tail
    shifts = np.arange(1, correct + 1)
    steps = (stats.binom.sf(correct - shifts - 1, guesses, truth) - tail) / shifts
    return min(1.0, tail + 2 * canaries * delta * float(np.max(steps, initial=0.0)))


def cosine_estimate(cosines: NDArray[np.float64], dimension: int, delta: float) -> float:
    """Estimates epsilon from the cosines of included canaries (2302.03098, algorithm 2).

    A canary that was left out would have a cosine distributed as N(0, 1/d); those included are
    fitted by a normal distribution, and epsilon is that of telling the two apart at `delta`.

    Args:
        cosines: between each included canary and the update, float64, shape (k,), k >= 2.
        dimension: d.
        delta: at which epsilon is estimated.

    Raises:
        ValueError: for fewer than two cosines.
    """
    if len(cosines) < 2:
        raise ValueError("a distribution cannot be fitted to fewer than two cosines")
    scale = math.sqrt(dimension)
    mean, std = scale * float(np.mean(cosines)), scale * float(np.std(cosines, ddof=1))
    return normal_pair_epsilon(mean, std, delta)


def normal_pair_epsilon(mean: float, std: float, delta: float) -> float:
    """Least epsilon for which N(0, 1) and N(mean, std^2) are (epsilon, delta)-close both ways."""

    def excess(epsilon: float) -> float:
        return (
            max(
                _hockey_stick(mean, std, 0.0, 1.0, epsilon),
                _hockey_stick(0.0, 1.0, mean, std, epsilon),
            )
            - delta
        )

    if excess(0.0) <= 0:
        return 0.0
    upper = 1.0
    while excess(upper) > 0:
        upper *= 2
    return float(optimize.brentq(excess, 0.0, upper, xtol=1e-9))


def _hockey_stick(mean: float, std: float, mean_0: float, std_0: float, epsilon: float) -> float:
    """The integral of max(0, p - e^epsilon q) for p = N(mean, std^2), q = N(mean_0, std_0^2)."""
    # log(p/q) - epsilon = a x^2 + b x + c is positive on an interval, its complement or a ray.
    a = (1 / std_0**2 - 1 / std**2) / 2
    b = mean / std**2 - mean_0 / std_0**2
    c = math.log(std_0 / std) + (mean_0 / std_0) ** 2 / 2 - (mean / std) ** 2 / 2 - epsilon
    discriminant = b * b - 4 * a * c
    if discriminant <= 0 or (a == 0 and b == 0):
        edges = [-math.inf, math.inf] if c > 0 else []
    else:
        # Citardauq's form of the roots stays exact when a is tiny.
        q = -(b + math.copysign(math.sqrt(discriminant), b)) / 2
        roots = sorted(r for r in (c / q, q / a if a != 0 else math.nan) if not math.isnan(r))
        if a > 0 or (a == 0 and b < 0):
            roots.insert(0, -math.inf)
        if a > 0 or (a == 0 and b > 0):
            roots.append(math.inf)
        edges = roots
    total = 0.0
    for low, high in zip(edges[::2], edges[1::2], strict=True):
        p = special.ndtr((high - mean) / std) - special.ndtr((low - mean) / std)
        log_q = _log_normal_mass((low - mean_0) / std_0, (high - mean_0) / std_0)
        total += p - math.exp(epsilon + log_q)
    return total


def _log_normal_mass(low: float, high: float) -> float:
    """log P[low < N(0, 1) < high], exact in either tail."""
    if low > 0:
        low, high = -high, -low
    upper, lower = float(special.log_ndtr(high)), float(special.log_ndtr(low))
    return upper + math.log1p(-math.exp(lower - upper)) if lower < upper else -math.inf
