"""Runs, and logs that count them, for the tests of limits, budgets and odometers."""

from __future__ import annotations

from privacy.accounting import ORDERS
from privacy.budget import Budget, Event, Odometer
from privacy.guarantee import DeltaTerms
from privacy.limits import Loss, RenyiFilter, Run, Unit
from privacy.plan import Mode, PrivacyPlan


def gaussian_run(
    name: str,
    noise_multiplier: float,
    participations: int = 1000,
    unit: Unit = Unit.SUBJECT,
    failure: float = 0.0,
) -> Run:
    """A run whose loss is that of the Gaussian mechanism (Mironov, 1702.07476, Corollary 3)."""
    rdp = tuple(order / (2 * noise_multiplier**2) for order in ORDERS)
    return Run(name, unit, participations, Loss(rdp, DeltaTerms(failure, 0.0, 0.0)))


def opened(limit: RenyiFilter) -> Budget:
    return Budget([Event(0, limit=limit)])


def apply(log: Budget | Odometer, events: tuple[Event, ...]) -> tuple[Event, ...]:
    for event in events:
        log.record(event)
    return events


LIMIT = RenyiFilter(Unit.SUBJECT, order=12, epsilon=3.0, delta=1e-6)


def client_plan(noise_multiplier: float, participations: int, rounds: int) -> PrivacyPlan:
    return PrivacyPlan(
        mode=Mode.CLIENT,
        dimension=1024,
        clip_norm=1.0,
        grid=1 / 3200,
        noise_multiplier=noise_multiplier,
        cohort=100,
        min_survivors=80,
        colluders=5,
        rounds=rounds,
        max_participations=participations,
        delta=1e-6,
    )
