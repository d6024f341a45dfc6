"""Budgets: replay, reservations, charges and crashes."""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import ORDERS, rdp_to_epsilon
from privacy.budget import (
    Budget,
    BudgetError,
    BudgetExceededError,
    Event,
    Step,
    charge_then_open,
    event_from_json,
    event_to_json,
)
from privacy.canonical import canonical_bytes, parse_canonical
from privacy.limits import RenyiFilter, Run, Unit
from privacy.records import RecordError
from tests.privacy.runs import CLIENT_PLAN, LIMIT, apply, gaussian_run, opened


def test_two_federations_share_one_population() -> None:
    """The same plan twice costs what one with twice the participations costs.

    Epsilons of z=4 for p=5 and p=10 at delta=1e-6, integer-order RDP: computed with
    dp-accounting 0.6.0 when the project was specified.
    """
    budget = opened(RenyiFilter(Unit.NODE, order=8, epsilon=4.1, delta=1e-6))
    epsilons = []
    for name in ("first", "second"):
        run = Run.of_plan(name, CLIENT_PLAN)
        apply(budget, budget.reserve(run, [str(i) for i in range(20)]))
        for i in range(20):
            apply(budget, budget.charge(name, str(i)))
        epsilons.append(rdp_to_epsilon(np.asarray(budget.spent().rdp), 1e-6)[0])
    assert epsilons == pytest.approx([2.736, 4.012], abs=1e-3)
    third = Run.of_plan("third", CLIENT_PLAN)
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
