"""Privacy budgets that are replayed from a log of events: a population's and a node's.

The log is the state. A method that wants a change returns the events to append and changes
nothing; the caller stores them (a database transaction, an fsynced file) and only then passes
them to `record`. Replaying a stored log is the same `record`, event by event. Each event carries
its position, so of two writers that started from one state the second is refused: by a unique key
on (log, position) where they share a database, and by `record` in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from privacy.canonical import JsonValue
from privacy.limits import Loss, RenyiFilter, Run, total_loss
from privacy.records import RecordError, from_json, to_json


class BudgetError(ValueError):
    """A step that the log does not allow; nothing was changed."""


class BudgetExceededError(BudgetError):
    """The step would take the total past the limit."""


class Step(StrEnum):
    """What an event does to one round."""

    RESERVED = "reserved"
    CHARGED = "charged"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a log: exactly one of a limit, a run, or a step of a round."""

    position: int
    limit: RenyiFilter | None = None
    run: Run | None = None
    step: Step | None = None
    run_id: str | None = None
    round_id: str | None = None

    def __post_init__(self) -> None:
        named = self.step is not None, self.run_id is not None, self.round_id is not None
        kinds = (self.limit is not None) + (self.run is not None) + all(named)
        if kinds != 1 or any(named) != all(named):
            raise ValueError("an event holds one limit, one run or one step of a round")


def event_to_json(event: Event) -> JsonValue:
    """The JSON to store; fields that do not apply are left out."""
    fields = {name: getattr(event, name) for name in Event.__dataclass_fields__}
    return {name: to_json(field) for name, field in fields.items() if field is not None}


def event_from_json(value: JsonValue) -> Event:
    """The event that `event_to_json` wrote.

    Raises:
        RecordError: for anything else.
    """
    if not isinstance(value, dict):
        raise RecordError("an event is an object")
    empty: dict[str, JsonValue] = dict.fromkeys(Event.__dataclass_fields__)
    return from_json(Event, empty | value)


class SpendingLog:
    """The state that a log of events amounts to, and the rules by which it grows.

    A round is reserved, then either charged or released, and each step is final. What is charged
    stays charged. After a crash a round may be found reserved: releasing it is safe because no sum
    is opened before its charge is stored (`charge_then_open`), and charging it is always safe.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self._length = 0
        self._limit: RenyiFilter | None = None
        self._runs: dict[str, Run] = {}
        self._steps: dict[str, dict[str, Step]] = {}
        for event in events:
            self.record(event)

    @property
    def limit(self) -> RenyiFilter:
        """The limit in force.

        Raises:
            BudgetError: if the log is empty.
        """
        if self._limit is None:
            raise BudgetError("the log was never opened with a limit")
        return self._limit

    def change_epsilon(self, epsilon: float) -> Event:
        """The event that lowers or raises the limit (`RenyiFilter.may_become`)."""
        return Event(self._length, limit=replace(self.limit, epsilon=epsilon))

    def record(self, event: Event) -> None:
        """Applies an event that is stored already.

        Raises:
            BudgetError: if the event does not follow from the log so far.
        """
        if event.position != self._length:
            raise BudgetError(
                f"event {event.position} where {self._length} is next: another writer was first, "
                "or an event is missing"
            )
        if event.limit is not None:
            self._set_limit(event.limit)
        elif event.run is not None:
            if self._check_run(event.run):
                raise BudgetError(f"run {event.run.run_id} is in the log already")
            self._runs[event.run.run_id] = event.run
            self._steps[event.run.run_id] = {}
        elif event.step and event.run_id is not None and event.round_id is not None:
            self._check_step(event.run_id, event.round_id, event.step)
            self._steps[event.run_id][event.round_id] = event.step
        self._length += 1

    def spent(self) -> Loss:
        """The loss of what is charged, for a unit that took part as often as it may."""
        return self._total((Step.CHARGED,))

    def committed(self) -> Loss:
        """The loss once everything that is reserved is charged too."""
        return self._total((Step.RESERVED, Step.CHARGED))

    def epsilon_spent(self) -> float:
        """`spent` as an epsilon at the limit's order and delta; for display."""
        return self.limit.epsilon_of(self.spent())

    def rounds(self, run_id: str, step: Step) -> tuple[str, ...]:
        """Rounds of a run whose last step is `step`, in the order in which they were reserved."""
        return tuple(name for name, last in self._steps.get(run_id, {}).items() if last is step)

    def charged(self) -> int:
        """How many rounds of all runs are charged."""
        return sum(len(self.rounds(run_id, Step.CHARGED)) for run_id in self._runs)

    def unsettled(self) -> tuple[tuple[str, str], ...]:
        """(run, round) of every reservation that is neither charged nor released."""
        return tuple((r, name) for r in self._runs for name in self.rounds(r, Step.RESERVED))

    def last_step(self, run_id: str, round_id: str) -> Step | None:
        """The last step of a round, None if it was never reserved.

        Raises:
            BudgetError: for a run that is not in the log.
        """
        if run_id not in self._runs:
            raise BudgetError(f"run {run_id} is not in the log")
        return self._steps[run_id].get(round_id)

    def would_exceed(self, run: Run, rounds: int) -> bool:
        """Whether reserving `rounds` more rounds of `run` would break the limit; changes nothing.

        Raises:
            BudgetError: if the limit cannot bound such a run at all.
        """
        self._check_run(run)
        total = self._total((Step.RESERVED, Step.CHARGED), (run, rounds))
        return not self.limit.admits(total)

    def _set_limit(self, limit: RenyiFilter) -> None:
        if self._length > 0 and not self.limit.may_become(limit):
            raise BudgetError("unit, order and delta of a limit are fixed when its log is opened")
        self._limit = limit

    def _check_run(self, run: Run) -> bool:
        """Whether the run is in the log; refuses one that the limit or the log contradicts."""
        if not self.limit.bounds(run):
            raise BudgetError(
                "this limit protects whole nodes, and a run that protects subjects gives no bound "
                "for a node; a limit per subject accepts both kinds of run"
            )
        if self._runs.get(run.run_id, run) != run:
            raise BudgetError(f"run {run.run_id} is in the log with other terms")
        return run.run_id in self._runs

    def _check_step(self, run_id: str, round_id: str, step: Step) -> None:
        last = self.last_step(run_id, round_id)
        if last is not (None if step is Step.RESERVED else Step.RESERVED):
            raise BudgetError(f"round {round_id} cannot be {step}: it is {last or 'not reserved'}")

    def _reservations(self, run: Run, round_ids: Iterable[str]) -> tuple[Event, ...]:
        """Events that bring unseen rounds into the log; the limit is the caller's business."""
        known = self._check_run(run)
        seen = self._steps[run.run_id] if known else {}
        events = [] if known else [Event(self._length, run=run)]
        for round_id in dict.fromkeys(round_ids):
            if round_id not in seen:
                events.append(self._step(run.run_id, round_id, Step.RESERVED, len(events)))
        return tuple(events)

    def _step(self, run_id: str, round_id: str, step: Step, offset: int = 0) -> Event:
        return Event(self._length + offset, step=step, run_id=run_id, round_id=round_id)

    def _total(self, counted: tuple[Step, ...], extra: tuple[Run, int] | None = None) -> Loss:
        runs = dict(self._runs)
        counts = {
            run_id: sum(step in counted for step in steps.values())
            for run_id, steps in self._steps.items()
        }
        if extra is not None:
            run, rounds = extra
            runs[run.run_id] = run
            counts[run.run_id] = counts.get(run.run_id, 0) + rounds
        return total_loss((run, counts[run_id]) for run_id, run in runs.items())


class Budget(SpendingLog):
    """What a population of nodes may lose to one coordinator, over all its federations.

    A run counts at most as often as one node may take part (`total_loss`).
    """

    def reserve(self, run: Run, round_ids: Iterable[str]) -> tuple[Event, ...]:
        """Events that set aside what these rounds may cost; none for rounds seen before.

        Raises:
            BudgetExceededError: if the limit would be broken.
            BudgetError: if the limit cannot bound such a run, or the run's terms changed.
        """
        events = self._reservations(run, round_ids)
        rounds = sum(event.step is Step.RESERVED for event in events)
        if self.would_exceed(run, rounds):
            raise BudgetExceededError(
                f"{rounds} more rounds of run {run.run_id} would exceed epsilon "
                f"{self.limit.epsilon} at delta {self.limit.delta}"
            )
        return events

    def charge(self, run_id: str, round_id: str) -> tuple[Event, ...]:
        """Events that spend a reserved round for good; none if it is charged already.

        Raises:
            BudgetError: if the round is not reserved.
        """
        if self.last_step(run_id, round_id) is Step.CHARGED:
            return ()
        self._check_step(run_id, round_id, Step.CHARGED)
        return (self._step(run_id, round_id, Step.CHARGED),)

    def release(self, run_id: str, round_id: str) -> tuple[Event, ...]:
        """Events that give back a round whose sum was never opened; none if it is released already.

        Raises:
            BudgetError: if the round is charged or was never reserved.
        """
        if self.last_step(run_id, round_id) is Step.RELEASED:
            return ()
        self._check_step(run_id, round_id, Step.RELEASED)
        return (self._step(run_id, round_id, Step.RELEASED),)


class Odometer(SpendingLog):
    """What one node has lost to all coordinators, federations and identities together.

    Every debit is a participation of this very node and nothing is refunded: the node cannot tell
    whether the others' shares were used to open the sum.
    """

    def debit(self, run: Run, round_id: str) -> tuple[Event, ...]:
        """Events to store durably before the round's masked upload leaves.

        None if the round is debited already; then only the very bytes that were stored for it
        may be sent, never a new payload.

        Raises:
            BudgetExceededError: if the limit would be broken, or this would be one participation
                more than the run allows.
            BudgetError: if the limit cannot bound such a run, or the run's terms changed.
        """
        if not self._check_run(run):
            last = None
        elif (last := self.last_step(run.run_id, round_id)) is Step.CHARGED:
            return ()
        if self.would_exceed(run, 1 if last is None else 0):
            raise BudgetExceededError(
                f"a round of run {run.run_id} would exceed epsilon {self.limit.epsilon} at delta "
                f"{self.limit.delta}, or the run's {run.participations} participations"
            )
        return self._debit(run, round_id)

    def recover(self, run: Run, round_id: str) -> tuple[Event, ...]:
        """Events for a debit that this log lacks although a receipt proves it.

        So a node restored from a backup resumes from everything that either it or a coordinator
        still knows. The limit is not asked: the loss has happened.
        """
        known = self._check_run(run)
        if known and self.last_step(run.run_id, round_id) is Step.CHARGED:
            return ()
        return self._debit(run, round_id)

    def would_exceed(self, run: Run, rounds: int) -> bool:
        """As in a budget, and more participations than the run allows count as exceeding."""
        taken = sum(len(self.rounds(run.run_id, s)) for s in (Step.RESERVED, Step.CHARGED))
        return taken + rounds > run.participations or super().would_exceed(run, rounds)

    def _debit(self, run: Run, round_id: str) -> tuple[Event, ...]:
        events = self._reservations(run, [round_id])
        return (*events, self._step(run.run_id, round_id, Step.CHARGED, len(events)))


Opened = TypeVar("Opened")


def charge_then_open(
    budget: Budget,
    run_id: str,
    round_id: str,
    store: Callable[[tuple[Event, ...]], None],
    open_sum: Callable[[], Opened],
) -> Opened:
    """Charges a round durably, then opens its sum: the only order in which a crash is harmless.

    `store` returns when the events cannot be lost any more, and raises otherwise; then the sum
    stays closed.
    """
    events = budget.charge(run_id, round_id)
    store(events)
    for event in events:
        budget.record(event)
    return open_sum()
