"""Budgets as an auditor reads them: of a population and of each of its federations."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from federation.coordinator import federations, overview, populations
from federation.coordinator.authority import Authority
from federation.plan import FederationPlan
from federation.statement import finite, guarantees
from privacy.accounting import ORDERS
from privacy.budget import Budget, Step
from privacy.guarantee import ADJACENCY
from privacy.limits import RenyiFilter, Unit
from privacy.plan import Mode


@dataclass(frozen=True, slots=True)
class FederationAccount:
    """What one federation has taken; epsilons are towards the coordinator, at the limit's order.

    Attributes:
        federation, state, plan_hash: which.
        rounds, charged, reserved, released: rounds of its plan, and how many are in which state.
        participations: most charged rounds that count, since no node takes part more often.
        epsilon_spent: of its charged rounds alone, None if unbounded.
        delta: of the population's limit, to which `epsilon_spent` belongs.
        epsilon_plan, delta_plan: what the signed plan promises, at its best order; the epsilon is
            None if unbounded.
        mode, unit, adjacency, trust: what the numbers mean.
    """

    federation: str
    state: str
    plan_hash: str
    rounds: int
    charged: int
    reserved: int
    released: int
    participations: int
    epsilon_spent: float | None
    delta: float
    epsilon_plan: float | None
    delta_plan: float
    mode: Mode
    unit: str
    adjacency: str
    trust: str


@dataclass(frozen=True, slots=True)
class PopulationAccount:
    """A population's budget.

    Attributes:
        population: whose.
        epsilon_limit, delta, order: the limit and the Renyi order at which it is kept.
        epsilon_spent: of everything charged.
        epsilon_reserved: what reserved rounds would add to it.
        epsilon_left: what the limit leaves above both; 0 if they exceed it.
        capacity, charged, reserved, left: the same as Renyi divergences at `order`, which, unlike
            epsilons, add up; left = capacity - charged - reserved.
        modes: of its federations.
        unit, adjacency, trust: what the numbers mean.
        federations: by name.
    """

    population: str
    epsilon_limit: float
    delta: float
    order: int
    epsilon_spent: float | None
    epsilon_reserved: float | None
    epsilon_left: float
    capacity: float
    charged: float
    reserved: float
    left: float
    modes: tuple[Mode, ...]
    unit: Unit
    adjacency: str
    trust: str
    federations: tuple[FederationAccount, ...]


def account(session: Session, authority: Authority, population: str) -> PopulationAccount:
    """The budget of a population.

    Raises:
        RefusedError: unknown_population.
    """
    overview.population(session, population)
    budget = populations.budget(session, population)
    limit, spent, committed = budget.limit, budget.spent(), budget.committed()
    place = ORDERS.index(limit.order)
    charged, both = spent.rdp[place], committed.rdp[place]
    epsilon_spent, epsilon_both = limit.epsilon_of(spent), limit.epsilon_of(committed)
    members = tuple(
        _federation(row.name, row.state, federations.plan_of(row, authority), budget, limit)
        for row in overview.all_federations(session, population)
    )
    return PopulationAccount(
        population=population,
        epsilon_limit=limit.epsilon,
        delta=limit.delta,
        order=limit.order,
        epsilon_spent=finite(epsilon_spent),
        epsilon_reserved=finite(epsilon_both - epsilon_spent),
        epsilon_left=max(0.0, limit.epsilon - epsilon_both),
        capacity=limit.capacity,
        charged=charged,
        reserved=both - charged,
        left=max(0.0, limit.capacity - both),
        modes=tuple(dict.fromkeys(member.mode for member in members)),
        unit=limit.unit,
        adjacency=ADJACENCY,
        trust="of each federation what its plan assumes: see there",
        federations=members,
    )


def _federation(
    name: str, state: str, plan: FederationPlan, budget: Budget, limit: RenyiFilter
) -> FederationAccount:
    charged, reserved, released = (
        len(budget.rounds(plan.hash, step)) for step in (Step.CHARGED, Step.RESERVED, Step.RELEASED)
    )
    run, whole = plan.run, guarantees(plan.privacy)[0]
    spent = run.loss.times(min(charged, run.participations))
    return FederationAccount(
        federation=name,
        state=state,
        plan_hash=plan.hash,
        rounds=plan.privacy.rounds,
        charged=charged,
        reserved=reserved,
        released=released,
        participations=run.participations,
        epsilon_spent=finite(limit.epsilon_of(spent)) if charged else 0.0,
        delta=limit.delta,
        epsilon_plan=whole.epsilon,
        delta_plan=whole.delta,
        mode=plan.privacy.mode,
        unit=whole.unit,
        adjacency=whole.adjacency,
        trust=whole.trust,
    )
