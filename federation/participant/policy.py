"""What a node's owner agrees to: the terms that a plan must meet, and the lifetime limit.

The coordinator's word is not enough: a node compares each plan with this policy before it enlists,
and its own odometer refuses the round that would take it past the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.adapter_spec import AdapterKind
from federation.plan import FederationPlan
from privacy.canonical import MAX_SAFE_INTEGER
from privacy.guarantee import Epsilons, epsilons
from privacy.ledger_records import ThreatModel
from privacy.limits import RenyiFilter, Unit
from privacy.plan import Mode


@dataclass(frozen=True, slots=True)
class ConsentPolicy:
    """The weakest terms that the owner accepts. A node that is not told otherwise has these.

    Attributes:
        modes: privacy modes.
        largest_epsilon: of a whole plan towards the coordinator with the planned colluders.
        largest_epsilon_alone: of a whole plan if all other nodes were dishonest; None: any.
        largest_delta: of a plan.
        smallest_cohort, smallest_min_survivors: fewest nodes invited, and fewest in a sum.
        threat_models: of secure aggregation.
        adapters: which models may be adapted.
        largest_dimension: most trained parameters.
        base_models: identities of base models; None: whichever the node runs.
        lifetime_epsilon, lifetime_delta: limit of the odometer, for one subject, over all
            coordinators, federations and identities.
        lifetime_order: Renyi order at which the odometer counts; fixed with `lifetime_delta` when
            the policy is first set.
        shares_feedback: whether examples that were made from feedback of users enter rounds.

    Raises:
        ValueError: a term makes no sense.
    """

    modes: tuple[Mode, ...] = tuple(Mode)
    largest_epsilon: float = 4.0
    largest_epsilon_alone: float | None = None
    largest_delta: float = 1e-4
    smallest_cohort: int = 10
    smallest_min_survivors: int = 5
    threat_models: tuple[ThreatModel, ...] = tuple(ThreatModel)
    adapters: tuple[AdapterKind, ...] = tuple(AdapterKind)
    largest_dimension: int = 1_000_000
    base_models: tuple[str, ...] | None = None
    lifetime_epsilon: float = 8.0
    lifetime_delta: float = 1e-5
    lifetime_order: int = 5
    shares_feedback: bool = False

    def __post_init__(self) -> None:
        for name in ("largest_epsilon", "largest_epsilon_alone"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= MAX_SAFE_INTEGER:
                raise ValueError(f"{name} must be a positive number below 2^53, not {value}")
        if not 0 < self.largest_delta < 1:
            raise ValueError(f"largest_delta must lie between 0 and 1, not {self.largest_delta}")
        for name in (
            "smallest_cohort", "smallest_min_survivors", "largest_dimension", "lifetime_order",
        ):  # fmt: skip
            if getattr(self, name) > MAX_SAFE_INTEGER:
                raise ValueError(f"{name} must be at most 2^53 - 1")
        for name in ("smallest_cohort", "smallest_min_survivors"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2: a sum of one node hides nothing")
        if self.largest_dimension < 1:
            raise ValueError("largest_dimension must be at least 1")
        _ = self.limit

    @property
    def limit(self) -> RenyiFilter:
        """The odometer's limit. Raises ValueError if order, epsilon and delta do not fit."""
        return RenyiFilter(
            Unit.SUBJECT, self.lifetime_order, self.lifetime_epsilon, self.lifetime_delta
        )


def refusals(plan: FederationPlan, policy: ConsentPolicy) -> tuple[str, ...]:
    """Why a node with this policy takes no part in this plan: a sentence for each term.

    Empty if every term of the plan is at least as strong as the policy wants.
    """
    privacy = plan.privacy
    spent = epsilons(privacy)
    checks = (
        _one_of("mode", privacy.mode, policy.modes),
        *_epsilon_refusals(spent, policy),
        _at_most("delta", privacy.delta, policy.largest_delta),
        _at_least("cohort", privacy.cohort, policy.smallest_cohort),
        _at_least("min_survivors", privacy.min_survivors, policy.smallest_min_survivors),
        _one_of("threat_model", plan.threat_model, policy.threat_models),
        _one_of("adapter", plan.adapter.kind, policy.adapters),
        _at_most("dimension", privacy.dimension, policy.largest_dimension),
        None
        if policy.base_models is None
        else _one_of("base_model", plan.adapter.base_model, policy.base_models),
    )
    return tuple(refusal for refusal in checks if refusal is not None)


def _epsilon_refusals(spent: Epsilons, policy: ConsentPolicy) -> tuple[str | None, ...]:
    coordinator = _at_most("epsilon_coordinator", spent.coordinator.value, policy.largest_epsilon)
    if policy.largest_epsilon_alone is None:
        return (coordinator,)
    return coordinator, _at_most("epsilon_alone", spent.alone.value, policy.largest_epsilon_alone)


def _one_of(term: str, value: str, accepted: tuple[str, ...]) -> str | None:
    if value in accepted:
        return None
    return f"{term}: the plan says {value}, the policy accepts {', '.join(accepted) or 'none'}"


def _at_most(term: str, value: float, most: float) -> str | None:
    if value <= most:
        return None
    return f"{term}: the plan says {value:.6g}, the policy wants at most {most:.6g}"


def _at_least(term: str, value: int, least: int) -> str | None:
    if value >= least:
        return None
    return f"{term}: the plan says {value}, the policy wants at least {least}"
