"""Budgets and odometers: replay, the Renyi filter, reservations, charges and crashes."""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import ORDERS, rdp_to_epsilon
from privacy.budget import (
    Budget,
    BudgetError,
    BudgetExceededError,
    Event,
    Odometer,
    Step,
    charge_then_open,
    event_from_json,
    event_to_json,
)
from privacy.canonical import canonical_bytes, parse_canonical
from privacy.guarantee import DeltaTerms, View
from privacy.limits import DELTA_RESERVE, Loss, RenyiFilter, Run, Unit
from privacy.plan import Mode, PrivacyPlan
from privacy.records import RecordError


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


@pytest.mark.parametrize(
    ("order", "epsilon", "delta"), [(4, 8.0, 1e-4), (12, 3.0, 1e-6), (64, 0.5, 1e-9)]
)
def test_the_capacity_means_the_limit_according_to_dp_accounting(
    order: int, epsilon: float, delta: float
) -> None:
    limit = RenyiFilter(Unit.NODE, order, epsilon, delta)
    accountant = RdpAccountant([order], NeighboringRelation.REPLACE_SPECIAL)
    accountant.compose(GaussianDpEvent(math.sqrt(order / (2 * limit.capacity))))
    assert accountant.get_epsilon((1 - DELTA_RESERVE) * delta) == pytest.approx(epsilon, rel=1e-12)


@pytest.mark.parametrize("order", [1, 0, -3, 129, 2048])
def test_a_limit_needs_an_accounted_order(order: int) -> None:
    with pytest.raises(ValueError, match="order"):
        RenyiFilter(Unit.NODE, order, 3.0, 1e-6)


def test_the_chosen_order_admits_most_participations() -> None:
    """p=5 of z=4 costs 2.736 at delta=1e-6 at the best order: see the test of two federations."""
    run = Run.of_plan("a", client_plan(4.0, 5, 20))
    chosen = RenyiFilter.for_run(run, 2.75, 1e-6)
    assert chosen.unit is Unit.NODE
    assert chosen.admits(run.loss.times(5))
    assert not chosen.admits(run.loss.times(6))
    for order in range(8, 128):
        other = RenyiFilter(Unit.NODE, order, 2.75, 1e-6)
        assert other.capacity / run.loss.rdp[ORDERS.index(order)] <= (
            chosen.capacity / run.loss.rdp[ORDERS.index(chosen.order)]
        )
    with pytest.raises(ValueError, match="no loss is small enough"):
        RenyiFilter.for_run(run, 1e-9, 1e-6)


def test_a_limit_that_no_loss_can_meet_is_refused() -> None:
    with pytest.raises(ValueError, match="higher order"):
        RenyiFilter(Unit.NODE, 2, 3.0, 1e-6)


def test_the_filter_stays_at_its_order_although_another_would_admit_more() -> None:
    limit = RenyiFilter(Unit.SUBJECT, order=64, epsilon=3.0, delta=1e-6)
    run = gaussian_run("a", noise_multiplier=10.0)
    budget = opened(limit)
    rounds = 9
    best, best_order = rdp_to_epsilon(np.asarray(run.loss.times(rounds).rdp), limit.delta)
    assert best < limit.epsilon
    assert best_order != limit.order
    assert rounds * run.loss.rdp[ORDERS.index(64)] > limit.capacity
    assert budget.would_exceed(run, rounds)
    assert not budget.would_exceed(run, rounds - 1)
    with pytest.raises(BudgetExceededError):
        budget.reserve(run, [str(i) for i in range(rounds)])


@pytest.mark.parametrize(
    "changed",
    [
        RenyiFilter(Unit.SUBJECT, order=16, epsilon=3.0, delta=1e-6),
        RenyiFilter(Unit.NODE, order=12, epsilon=3.0, delta=1e-6),
        RenyiFilter(Unit.SUBJECT, order=12, epsilon=3.0, delta=1e-5),
    ],
)
def test_order_unit_and_delta_are_fixed_when_the_log_is_opened(changed: RenyiFilter) -> None:
    budget = opened(LIMIT)
    with pytest.raises(BudgetError, match="fixed"):
        budget.record(Event(1, limit=changed))
    assert budget.limit == LIMIT


def test_epsilon_may_be_lowered_below_what_is_spent() -> None:
    budget = opened(LIMIT)
    run = gaussian_run("a", 5.0)
    apply(budget, budget.reserve(run, ["1", "2"]))
    apply(budget, budget.charge("a", "1"))
    budget.record(budget.change_epsilon(1.1))
    assert budget.limit.epsilon == 1.1
    assert budget.epsilon_spent() > 1.1
    assert budget.would_exceed(run, 0)


def test_failures_have_a_bound_of_their_own() -> None:
    budget = opened(LIMIT)
    failure = DELTA_RESERVE * LIMIT.delta
    assert not budget.would_exceed(gaussian_run("a", 1e6, failure=failure), 1)
    assert budget.would_exceed(gaussian_run("a", 1e6, failure=failure), 2)
    sampler = Run("b", Unit.SUBJECT, 1, Loss((0.0,) * len(ORDERS), DeltaTerms(0.0, 0.0, failure)))
    assert budget.would_exceed(sampler, 1)


def test_a_limit_for_nodes_refuses_runs_that_protect_subjects() -> None:
    nodes = opened(RenyiFilter(Unit.NODE, order=12, epsilon=3.0, delta=1e-6))
    with pytest.raises(BudgetError, match="whole nodes"):
        nodes.would_exceed(gaussian_run("a", 1e6, unit=Unit.SUBJECT), 1)
    subjects = opened(LIMIT)
    apply(subjects, subjects.reserve(gaussian_run("a", 5.0, unit=Unit.NODE), ["1"]))
    apply(subjects, subjects.charge("a", "1"))
    assert subjects.epsilon_spent() > 0


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


def test_two_federations_share_one_population() -> None:
    """The same plan twice costs what one with twice the participations costs.

    Epsilons of z=4 for p=5 and p=10 at delta=1e-6, integer-order RDP: computed with
    dp-accounting 0.6.0 when the project was specified.
    """
    budget = opened(RenyiFilter(Unit.NODE, order=8, epsilon=4.1, delta=1e-6))
    epsilons = []
    for name in ("first", "second"):
        run = Run.of_plan(name, client_plan(4.0, participations=5, rounds=20))
        apply(budget, budget.reserve(run, [str(i) for i in range(20)]))
        for i in range(20):
            apply(budget, budget.charge(name, str(i)))
        epsilons.append(rdp_to_epsilon(np.asarray(budget.spent().rdp), 1e-6)[0])
    assert epsilons == pytest.approx([2.736, 4.012], abs=1e-3)
    third = Run.of_plan("third", client_plan(4.0, 5, 20))
    with pytest.raises(BudgetExceededError):
        budget.reserve(third, ["0"])


def test_a_run_costs_at_most_its_participations() -> None:
    budget = opened(LIMIT)
    run = gaussian_run("a", 10.0, participations=2)
    apply(budget, budget.reserve(run, list("abcdefghij")))
    losses = []
    for round_id in "abcd":
        apply(budget, budget.charge("a", round_id))
        losses.append(budget.spent())
    assert losses == [run.loss, run.loss.times(2), run.loss.times(2), run.loss.times(2)]


def test_every_step_is_final() -> None:
    budget = opened(LIMIT)
    apply(budget, budget.reserve(gaussian_run("a", 10.0), ["charged", "released"]))
    apply(budget, budget.charge("a", "charged"))
    apply(budget, budget.release("a", "released"))
    assert budget.charge("a", "charged") == ()
    assert budget.release("a", "released") == ()
    with pytest.raises(BudgetError, match="it is charged"):
        budget.release("a", "charged")
    with pytest.raises(BudgetError, match="it is released"):
        budget.charge("a", "released")
    with pytest.raises(BudgetError, match="not reserved"):
        budget.charge("a", "unknown")
    with pytest.raises(BudgetError, match="not in the log"):
        budget.charge("unknown", "charged")
    with pytest.raises(BudgetError, match="other terms"):
        budget.reserve(gaussian_run("a", 11.0), ["more"])
    for step in Step:
        with pytest.raises(BudgetError):
            budget.record(Event(6, step=step, run_id="a", round_id="charged"))
    assert budget.spent() == gaussian_run("a", 10.0).loss


operations = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "charge", "release", "would_exceed"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from("12345"),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(operations)
def test_replaying_the_stored_log_gives_the_live_state(steps: list[tuple[str, str, str]]) -> None:
    runs = {"a": gaussian_run("a", 6.0, participations=2), "b": gaussian_run("b", 9.0)}
    budget, stored = opened(LIMIT), [canonical_bytes(event_to_json(Event(0, limit=LIMIT)))]
    for operation, run_id, round_id in steps:
        before = budget.spent().rdp[0]
        try:
            if operation == "reserve":
                events = budget.reserve(runs[run_id], [round_id])
            elif operation == "charge":
                events = budget.charge(run_id, round_id)
            elif operation == "release":
                events = budget.release(run_id, round_id)
            else:
                budget.would_exceed(runs[run_id], int(round_id))
                events = ()
        except BudgetError:
            continue
        stored += [canonical_bytes(event_to_json(event)) for event in apply(budget, events)]
        assert budget.spent().rdp[0] >= before

        replayed = Budget(event_from_json(parse_canonical(line)) for line in stored)
        assert replayed.spent() == budget.spent()
        assert replayed.unsettled() == budget.unsettled()
        assert LIMIT.admits(replayed.spent())
        assert not any(replayed.would_exceed(runs[name], 0) for name, _ in replayed.unsettled())


def test_the_second_of_two_writers_is_refused_and_sees_the_first_on_retry() -> None:
    log = [Event(0, limit=LIMIT)]
    large = gaussian_run("a", 2.0), gaussian_run("b", 2.0)
    first, second = Budget(log), Budget(log)
    from_first, from_second = first.reserve(large[0], ["1"]), second.reserve(large[1], ["1"])
    log += apply(first, from_first)
    stale = Budget(log)
    with pytest.raises(BudgetError, match="another writer"):
        stale.record(from_second[0])
    assert Budget(log).would_exceed(large[1], 1)


def test_concurrent_federations_on_one_database_never_exceed_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "budget.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE events (position INTEGER PRIMARY KEY, event TEXT NOT NULL)")
        opening = json.dumps(event_to_json(Event(0, limit=LIMIT)))
        database.execute("INSERT INTO events VALUES (0, ?)", (opening,))
    database.close()
    reserved: list[str] = []

    def federation(name: str) -> None:
        connection = sqlite3.connect(path, timeout=30)
        run = gaussian_run(name, 12.0)
        for i in range(20):
            while True:
                rows = connection.execute("SELECT event FROM events ORDER BY position").fetchall()
                budget = Budget(event_from_json(json.loads(row[0])) for row in rows)
                try:
                    events = budget.reserve(run, [str(i)])
                except BudgetExceededError:
                    connection.close()
                    return
                try:
                    with connection:
                        connection.executemany(
                            "INSERT INTO events VALUES (?, ?)",
                            [(e.position, json.dumps(event_to_json(e))) for e in events],
                        )
                except sqlite3.IntegrityError:
                    continue
                reserved.append(f"{name}/{i}")
                break
        connection.close()

    threads = [threading.Thread(target=federation, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT event FROM events ORDER BY position").fetchall()
    connection.close()
    final = Budget(event_from_json(json.loads(row[0])) for row in rows)
    affordable = math.floor(LIMIT.capacity / gaussian_run("x", 12.0).loss.rdp[10])
    assert ORDERS[10] == LIMIT.order
    assert len(final.unsettled()) == len(reserved) == affordable < 60


class Crash(Exception):
    """A process that ends here."""


@pytest.mark.parametrize("crash_at", ["before storing", "after storing", "while opening", "never"])
def test_no_crash_opens_a_sum_without_a_stored_charge(crash_at: str) -> None:
    run = gaussian_run("a", 10.0)
    budget = opened(LIMIT)
    disk = [Event(0, limit=LIMIT), *apply(budget, budget.reserve(run, ["1"]))]
    opened_with: list[bool] = []

    def store(events: tuple[Event, ...]) -> None:
        if crash_at == "before storing":
            raise Crash
        disk.extend(events)
        if crash_at == "after storing":
            raise Crash

    def open_sum() -> str:
        opened_with.append(Budget(disk).last_step("a", "1") is Step.CHARGED)
        if crash_at == "while opening":
            raise Crash
        return "sum"

    def attempt(log: Budget, at: Callable[[tuple[Event, ...]], None]) -> str:
        return charge_then_open(log, "a", "1", at, open_sum)

    if crash_at == "never":
        assert attempt(budget, store) == "sum"
    else:
        with pytest.raises(Crash):
            attempt(budget, store)
    assert all(opened_with)

    restarted = Budget(disk)
    if restarted.unsettled():
        assert opened_with == []
        assert apply(restarted, restarted.release("a", "1"))
        assert restarted.spent().rdp[0] == 0
    else:
        assert restarted.spent() == run.loss
        with pytest.raises(BudgetError):
            restarted.release("a", "1")
        crash_at = "never"
        assert attempt(restarted, disk.extend) == "sum"
        assert Budget(disk).spent() == run.loss


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
    assert debits == math.floor(LIMIT.capacity / run.loss.rdp[ORDERS.index(LIMIT.order)])
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
    assert backup.recover(run, "2") == ()


def test_recovered_losses_count_even_past_the_limit() -> None:
    odometer = Odometer([Event(0, limit=LIMIT)])
    huge = gaussian_run("a", 0.5, participations=1)
    apply(odometer, odometer.recover(huge, "1"))
    assert odometer.epsilon_spent() > LIMIT.epsilon
    assert odometer.would_exceed(gaussian_run("b", 1e9), 1)


@pytest.mark.parametrize(
    "change",
    [
        {"position": 1.5},
        {"position": True},
        {"extra": 1},
        {"round_id": None},
        {"run_id": 7},
        {"step": "refunded"},
        {"limit": {"unit": "subject", "order": 12, "epsilon": 3, "delta": 1e-6}},
    ],
)
def test_an_event_that_is_not_understood_is_refused(change: dict[str, object]) -> None:
    good = {"position": 3, "step": "charged", "run_id": "a", "round_id": "1"}
    assert event_from_json(dict(good)).step is Step.CHARGED
    with pytest.raises(RecordError):
        event_from_json({**good, **change})  # type: ignore[dict-item]


@pytest.mark.parametrize("value", [None, [], "x", {}, {"position": 0}])
def test_json_that_is_no_event_is_refused(value: object) -> None:
    with pytest.raises(RecordError):
        event_from_json(value)  # type: ignore[arg-type]


def test_a_log_with_a_missing_event_is_refused() -> None:
    budget = opened(LIMIT)
    events = apply(budget, budget.reserve(gaussian_run("a", 10.0), ["1", "2"]))
    log = [Event(0, limit=LIMIT), *events]
    for i in range(len(log)):
        with pytest.raises(BudgetError):
            Budget(
                [
                    *log[:i],
                    *log[i + 1 :],
                    Event(len(log), step=Step.CHARGED, run_id="a", round_id="2"),
                ]
            )


@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0])
def test_a_loss_that_is_not_a_number_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Loss((number,) * len(ORDERS), DeltaTerms(0.0, 0.0, 0.0))


def test_an_owner_who_trusts_nobody_counts_the_loss_of_a_node_alone() -> None:
    """One share of t_min - c = 75: the Renyi divergence is 75 times as large."""
    trusting = Run.of_plan("a", client_plan(4.0, 5, 20))
    alone = Run.of_plan("a", client_plan(4.0, 5, 20), View.ALONE)
    assert np.asarray(alone.loss.rdp) == pytest.approx(75 * np.asarray(trusting.loss.rdp), rel=1e-6)
