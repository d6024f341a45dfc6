"""Odometers: what a node counts of all coordinators, and recovers."""

from __future__ import annotations

import math

import pytest

from privacy.accounting import ORDERS
from privacy.budget import BudgetExceededError, Event, Odometer, Step
from tests.privacy.runs import LIMIT, apply, gaussian_run


def test_an_odometer_counts_every_coordinator_and_stops() -> None:
    odometer = Odometer([Event(0, limit=LIMIT)])
    debits = 0
    for coordinator in range(100):
        run = gaussian_run(f"plan of coordinator {coordinator}", 12.0, participations=1)
        if odometer.would_exceed(run, 1):
            with pytest.raises(BudgetExceededError):
                odometer.debit(run, "1")
            break
        apply(odometer, odometer.debit(run, "1"))
        debits += 1
    assert (
        odometer.charged()
        == debits
        == math.floor(LIMIT.capacity / run.loss.rdp[ORDERS.index(LIMIT.order)])
    )
    assert odometer.spent().rdp[0] == pytest.approx(debits * run.loss.rdp[0])


def test_an_odometer_enforces_participations_and_debits_a_round_once() -> None:
    odometer = Odometer([Event(0, limit=LIMIT)])
    run = gaussian_run("a", 50.0, participations=2)
    apply(odometer, odometer.debit(run, "1"))
    assert odometer.debit(run, "1") == ()
    apply(odometer, odometer.debit(run, "2"))
    with pytest.raises(BudgetExceededError, match="2 participations"):
        odometer.debit(run, "3")
    assert odometer.spent() == run.loss.times(2)


def test_an_odometer_that_crashed_inside_a_debit_finishes_it() -> None:
    odometer = Odometer([Event(0, limit=LIMIT)])
    run = gaussian_run("a", 50.0, participations=1)
    reservation = odometer.debit(run, "1")[:-1]
    apply(odometer, reservation)
    assert odometer.charged() == 0
    assert [e.step for e in apply(odometer, odometer.debit(run, "1"))] == [Step.CHARGED]
    assert odometer.spent() == run.loss


def test_a_restored_odometer_resumes_from_all_that_is_known() -> None:
    run, other = gaussian_run("a", 12.0, participations=3), gaussian_run("b", 9.0)
    complete = Odometer([Event(0, limit=LIMIT)])
    backup = Odometer([Event(0, limit=LIMIT)])
    for debited, round_id in ((run, "1"), (run, "2"), (other, "1")):
        apply(complete, complete.debit(debited, round_id))
    apply(backup, backup.debit(run, "1"))
    for debited, round_id in ((run, "2"), (other, "1"), (run, "1")):
        apply(backup, backup.recover(debited, round_id))
    assert backup.spent() == complete.spent()
    assert backup.charged() == complete.charged() == 3
    assert backup.recover(run, "2") == ()


def test_recovered_losses_count_even_past_the_limit() -> None:
    odometer = Odometer([Event(0, limit=LIMIT)])
    huge = gaussian_run("a", 0.5, participations=1)
    apply(odometer, odometer.recover(huge, "1"))
    assert odometer.epsilon_spent() > LIMIT.epsilon
    assert odometer.would_exceed(gaussian_run("b", 1e9), 1)
