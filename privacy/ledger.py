"""The ledger of a population: every limit and every round, chained by hashes and signed.

Each record names the hash of the one before it and is signed by the coordinator, so that nothing
inside the chain can be changed, removed, inserted or moved without the coordinator's key. What
the coordinator itself could rewrite, only receipts show (`verification`).
"""

import math
from collections.abc import Iterator

from privacy.accounting import ORDERS
from privacy.canonical import JsonValue
from privacy.ledger_records import (
    FIRST_LINK,
    FORMAT,
    LedgerRecord,
    Mechanism,
    RoundAccounts,
    RoundFacts,
    RoundRecord,
)
from privacy.limits import Loss, RenyiFilter, Run, total_loss
from privacy.plan import PrivacyPlan
from privacy.records import to_json
from privacy.zcdp import rho

TOLERANCE = 1e-9
"""Relative difference up to which two float64 computations of one number agree."""


class LedgerError(ValueError):
    """A record does not continue this ledger."""


class Ledger:
    """What a sequence of records amounts to, and what the next one must be.

    Like a budget it does no storing: build the next record, store its sealed line, then `append`.

    Attributes:
        population: whose ledger this is, None while it is empty.
        limit: in force, None while the ledger is empty.
        head: hash of the last record.
        length: number of records.
    """

    def __init__(self) -> None:
        self.population: str | None = None
        self.limit: RenyiFilter | None = None
        self.head = FIRST_LINK
        self.length = 0
        self._charges: dict[str, tuple[PrivacyPlan, int]] = {}
        self._rounds: dict[tuple[str, str], LedgerRecord] = {}

    def total(self) -> Loss:
        """The loss of all charged rounds (`limits.total_loss`)."""
        return total_loss((run, count) for run, _, count in self.charges())

    def charges(self) -> Iterator[tuple[Run, PrivacyPlan, int]]:
        """Each run with its plan and the number of its charged rounds."""
        for run_id, (plan, count) in self._charges.items():
            yield Run.of_plan(run_id, plan), plan, count

    def round(self, federation: str, round_id: str) -> LedgerRecord | None:
        """The record of a round, None if there is none."""
        return self._rounds.get((federation, round_id))

    def next_limit(self, population: str, limit: RenyiFilter, time: str) -> LedgerRecord:
        """The record that opens the ledger, or changes the epsilon of its limit."""
        return LedgerRecord(FORMAT, population, self.length, self.head, time, limit, None)

    def next_round(self, facts: RoundFacts, time: str) -> LedgerRecord:
        """The record of a round that has ended, with its accounts.

        Raises:
            LedgerError: if the ledger is empty.
        """
        if self.population is None:
            raise LedgerError("a ledger begins with a limit")
        record = RoundRecord(facts, self._accounts(facts))
        return LedgerRecord(FORMAT, self.population, self.length, self.head, time, None, record)

    def problems(self, record: LedgerRecord) -> tuple[str, ...]:
        """Everything for which `record` does not continue this ledger; changes nothing."""
        return tuple(self._problems(record))

    def append(self, record: LedgerRecord) -> None:
        """Continues the ledger.

        Raises:
            LedgerError: if there is any problem with the record; nothing is changed then.
        """
        if problems := self.problems(record):
            raise LedgerError("; ".join(problems))
        self.population = record.population
        self.limit = record.limit or self.limit
        if record.round is not None:
            facts = record.round.facts
            self._rounds[facts.federation, facts.round_id] = record
            self._charges[facts.run_id] = (facts.plan, self._count_after(facts))
        self.skip(record)

    def skip(self, record: LedgerRecord) -> None:
        """Takes `record` for the last link without counting it, to look at what follows a fault."""
        self.head, self.length = record.link, record.sequence + 1

    def _problems(self, record: LedgerRecord) -> Iterator[str]:
        if record.sequence != self.length:
            yield f"sequence {record.sequence} stands where {self.length} is next"
        if record.previous != self.head:
            yield "the link to the record before is broken"
        if self.population is not None and record.population != self.population:
            yield f"the record belongs to population {record.population!r}"
        if record.limit is not None:
            if self.limit is not None and not self.limit.may_become(record.limit):
                yield "unit, order and delta of a limit are fixed by the first record"
        elif self.limit is None:
            yield "a ledger begins with a limit"
        elif record.round is not None:
            yield from self._round_problems(record.round, self.limit)

    def _round_problems(self, record: RoundRecord, limit: RenyiFilter) -> Iterator[str]:
        facts = record.facts
        if self.round(facts.federation, facts.round_id) is not None:
            yield f"round {facts.round_id} of {facts.federation} is in the ledger already"
        if self._charges.get(facts.run_id, (facts.plan, 0))[0] != facts.plan:
            yield f"run {facts.run_id} is in the ledger with another plan"
        if not limit.bounds(Run.of_plan(facts.run_id, facts.plan)):
            yield "the limit protects whole nodes, for which this plan gives no bound"
        expected = self._accounts(facts)
        for name in RoundAccounts.__dataclass_fields__:
            declared = to_json(getattr(record.accounts, name))
            if not _close(declared, to_json(getattr(expected, name))):
                yield f"the declared {name} does not follow from the plan and the chain"
        if facts.charged and not limit.admits(expected.total):
            yield f"the total exceeds the limit of epsilon {limit.epsilon}"

    def _accounts(self, facts: RoundFacts) -> RoundAccounts:
        if self.limit is None:
            raise LedgerError("a ledger begins with a limit")
        run = Run.of_plan(facts.run_id, facts.plan)
        mechanism = Mechanism.of_plan(facts.plan)
        others = [(r, count) for r, _, count in self.charges() if r.run_id != run.run_id]
        before, total = self.total(), total_loss([*others, (run, self._count_after(facts))])
        return RoundAccounts(
            mechanism=mechanism,
            orders=ORDERS,
            loss=run.loss,
            rho=rho(mechanism.sum(facts.plan.dimension)) if mechanism.sampling_rate == 1 else None,
            total=total,
            epsilon_before=self.limit.epsilon_of(before),
            epsilon_after=self.limit.epsilon_of(total),
        )

    def _count_after(self, facts: RoundFacts) -> int:
        _, count = self._charges.get(facts.run_id, (facts.plan, 0))
        return count + facts.charged


def _close(declared: JsonValue, expected: JsonValue) -> bool:
    """Equality of two JSON values, of numbers up to a relative `TOLERANCE`."""
    if isinstance(declared, dict) and isinstance(expected, dict):
        return declared.keys() == expected.keys() and all(
            _close(declared[name], expected[name]) for name in declared
        )
    if isinstance(declared, list) and isinstance(expected, list):
        return len(declared) == len(expected) and all(map(_close, declared, expected))
    if isinstance(declared, float) and isinstance(expected, float):
        return math.isclose(declared, expected, rel_tol=TOLERANCE)
    return declared == expected
