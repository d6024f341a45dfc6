"""What a plan would mean before it is created: privacy, noise, traffic, time, budget, warnings."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from federation.plan import FederationPlan, Timing
from federation.traffic import Traffic, traffic
from privacy.budget import Budget, BudgetError
from privacy.guarantee import Epsilons, epsilons
from privacy.ledger_records import ThreatModel
from privacy.limits import RenyiFilter
from privacy.plan import Mode

PHASES_AFTER_TRAINING = 3
"""Masked vectors, survivors and unmasking; keys and shares run while nodes train."""

LARGE_EPSILON = 50.0
"""An epsilon above it says nothing in practice: e^50 is no bound on a likelihood ratio."""


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds of a round.

    Attributes:
        expected: when every node answers at once.
        longest: when every stage waits for its deadline.
    """

    expected: float
    longest: float


@dataclass(frozen=True, slots=True)
class BudgetFit:
    """What a plan would take from its population's budget.

    Attributes:
        limit: in force.
        committed: epsilon of all rounds that are charged or reserved, at the limit's order.
        committed_after: the same with all rounds of the plan.
        refusal: why the plan would be refused, None if it fits.
    """

    limit: RenyiFilter
    committed: float
    committed_after: float
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Preview:
    """A plan with what follows from it; nothing is stored.

    Attributes:
        plan: as it would be signed.
        per_round: the three guarantees of one participation.
        total: of `max_participations` participations.
        noise_to_signal: `PrivacyPlan.noise_to_signal`.
        traffic: bytes of one node in one round.
        duration: of a round.
        longest_total: seconds of all rounds if each stage waits for its deadline.
        budget: None where no population was given.
        warnings: what makes sense formally and is likely a mistake.
    """

    plan: FederationPlan
    per_round: Epsilons
    total: Epsilons
    noise_to_signal: float
    traffic: Traffic
    duration: Duration
    longest_total: float
    budget: BudgetFit | None
    warnings: tuple[str, ...]

    @property
    def refusal(self) -> str | None:
        """Why the federation could not be created now, None if it could."""
        return None if self.budget is None else self.budget.refusal


def preview(plan: FederationPlan, budget: Budget | None = None) -> Preview:
    """What `plan` means, and whether `budget` has room for it; changes nothing."""
    total = epsilons(plan.privacy)
    length = duration(plan.timing)
    rounds = plan.privacy.rounds
    return Preview(
        plan=plan,
        per_round=epsilons(replace(plan.privacy, rounds=1, max_participations=1)),
        total=total,
        noise_to_signal=plan.privacy.noise_to_signal,
        traffic=traffic(plan),
        duration=length,
        longest_total=rounds * length.longest + (rounds - 1) * plan.timing.interval_seconds,
        budget=None if budget is None else budget_fit(plan, budget),
        warnings=_warnings(plan, total),
    )


def duration(timing: Timing) -> Duration:
    """How long a round takes by its plan."""
    keys_and_shares = 2 * timing.phase_seconds
    training = max(timing.training_seconds, keys_and_shares)
    return Duration(
        expected=timing.training_seconds,
        longest=timing.enlist_seconds + training + PHASES_AFTER_TRAINING * timing.phase_seconds,
    )


def budget_fit(plan: FederationPlan, budget: Budget) -> BudgetFit:
    """Whether all rounds of `plan` can be reserved, and what would be committed then."""
    slots = [f"{plan.hash}/{slot}" for slot in range(plan.privacy.rounds)]
    refusal = None
    try:
        budget.reserve(plan.run, slots)
    except BudgetError as error:
        refusal = str(error)
    limit, before = budget.limit, budget.committed()
    # A limit for nodes says nothing about a plan that protects subjects.
    added = plan.privacy.max_participations if limit.bounds(plan.run) else 0
    after = before.plus(plan.run.loss.times(added))
    return BudgetFit(limit, limit.epsilon_of(before), limit.epsilon_of(after), refusal)


def _warnings(plan: FederationPlan, total: Epsilons) -> tuple[str, ...]:
    privacy = plan.privacy
    found = []
    if privacy.noise_to_signal > 1:
        found.append(
            f"noise-to-signal is {privacy.noise_to_signal:.3g}: the noise in a mean is larger than "
            "the largest mean can be, and training will hardly work. Take fewer parameters, more "
            "nodes or rows, fewer participations, or a larger epsilon."
        )
    lost = privacy.cohort - privacy.min_survivors
    if lost == 0:
        why = (
            " (the active threat model asks for more than two thirds)"
            if plan.threat_model is ThreatModel.ACTIVE
            else ""
        )
        found.append(
            f"all {privacy.cohort} nodes of a cohort must survive{why}: one drop-out fails the "
            "round, and if it comes late the round is charged all the same."
        )
    if not total.coordinator.value <= LARGE_EPSILON:
        found.append(
            f"epsilon_coordinator is {epsilon_text(total.coordinator.value)}: this protects nobody."
        )
    if privacy.mode is not Mode.LOCAL and not total.alone.value <= LARGE_EPSILON:
        found.append(
            f"epsilon_alone is {epsilon_text(total.alone.value)}: if all other nodes were "
            "dishonest, a node's own share of the noise would protect hardly anything. Everything "
            "rests on the other nodes being real and honest."
        )
    if total.coordinator.two_nodes is not None and not (
        total.coordinator.two_nodes <= LARGE_EPSILON
    ):
        found.append(
            "a subject that sits on two nodes has hardly any protection "
            f"(epsilon {epsilon_text(total.coordinator.two_nodes)}): nodes must not share subjects."
        )
    if plan.threat_model is ThreatModel.ACTIVE:
        found.append(
            "the active threat model holds only for nodes whose owners have confirmed the "
            "fingerprints of their peers, and refuses rounds for the others."
        )
    return tuple(found)


def epsilon_text(value: float) -> str:
    """An epsilon for people; an infinite one means that no bound could be shown."""
    return f"{value:.4g}" if math.isfinite(value) else "unbounded"
