"""Runs, and logs that count them, for the tests of limits, budgets and odometers."""

from __future__ import annotations

from dataclasses import replace

from privacy.accounting import ORDERS
from privacy.budget import Budget, Event, Odometer
from privacy.guarantee import DeltaTerms
from privacy.limits import Loss, RenyiFilter, Run, Unit
from tests.privacy.ledger_factory import client_plan


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

CLIENT_PLAN = replace(client_plan(4.0, participations=5), min_survivors=80, colluders=5)
"""One of 100 nodes and 20 rounds; of a sum the noise of t_min - c = 75 nodes is unknown."""
