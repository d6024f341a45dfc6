"""Verification of a ledger by somebody who has only the file, the public keys and any receipts.

What it finds:

* always: a change, removal, insertion or reordering inside the chain; a record by another key;
  accounts that do not follow from the declared plans; a total above the limit; an epsilon on
  which the second accountant disagrees.
* as far as receipts are given: a tail that was cut off, a fork, a round that was run but not
  logged, different statements to different participants, a number that its own hash belies.

What it counts without calling it wrong, because no honest coordinator could otherwise be accepted:

* rounds that have receipts and were not charged: some end honestly between the two.
* more or other receipts than the record counts: one may be lost on its way to the coordinator, and
  whoever holds a statement can countersign it under an invented key.
* changes of the limit.

What it cannot find: noise that was declared and not added, and anything about rounds for which
there is neither a record nor a receipt. `VerificationReport.statements` says so in words.
"""

import itertools
import math
from collections.abc import Iterable
from typing import BinaryIO

from privacy.ledger import TOLERANCE, Ledger
from privacy.ledger_records import Mechanism, RoundFacts, unseal
from privacy.plan import PrivacyPlan
from privacy.receipts import (
    Receipt,
    ReceiptError,
    RoundStatement,
    receipts_hash,
    survivors_hash,
)
from privacy.second_accountant import LARGEST_PLD_EPSILON, pld_epsilon, renyi_epsilon
from privacy.signing import BadSignatureError
from privacy.verification_report import Code, Finding, LimitChange, VerificationReport

LONGEST_LINE = 1 << 20
"""Bytes; a record has some ten thousand."""

MOST_FINDINGS = 100
"""A file with more is not worth describing further."""


def verify(
    ledger_file: BinaryIO, keys: Iterable[str], receipts: Iterable[bytes] = ()
) -> VerificationReport:
    """Checks a ledger file against public keys and receipts; nothing in it makes this raise.

    Args:
        ledger_file: an open binary file of sealed records, one a line.
        keys: the coordinator's public keys, 64 lower-case hexadecimal digits each.
        receipts: canonical JSON of one receipt each, as `Receipt.to_bytes` writes it.
    """
    return _Verification(frozenset(keys)).run(ledger_file, receipts)


class _Verification:
    def __init__(self, keys: frozenset[str]) -> None:
        self._keys = keys
        self._ledger = Ledger()
        self._positions: dict[str, int] = {}
        self._findings: list[Finding] = []
        # Dictionaries as sets that keep the order of the file.
        self._uncharged: dict[tuple[str, str], None] = {}
        self._other_receipts: dict[tuple[str, str], None] = {}
        self._limit_changes: list[LimitChange] = []

    def run(self, ledger_file: BinaryIO, receipts: Iterable[bytes]) -> VerificationReport:
        for number in itertools.count(1):
            line = ledger_file.readline(LONGEST_LINE + 1)
            if not line or len(self._findings) >= MOST_FINDINGS:
                break
            if len(line) > LONGEST_LINE:
                self._find(Code.UNREADABLE, number, f"the line is longer than {LONGEST_LINE} bytes")
                break
            self._check_line(line, number)
        if not self._positions:
            self._find(Code.UNREADABLE, None, "the file holds no valid record")
        checked = self._check_receipts(receipts)
        return self._report(checked)

    def _find(self, code: Code, line: int | None, message: str) -> None:
        self._findings.append(Finding(code, line, message))

    def _check_line(self, line: bytes, number: int) -> None:
        try:
            sealed = unseal(line)
        except ValueError as error:
            self._find(Code.UNREADABLE, number, str(error))
            return
        record = sealed.record
        try:
            if sealed.signer not in self._keys:
                raise BadSignatureError("signed by a key that was not given")
            sealed.check()
        except BadSignatureError as error:
            self._find(Code.SIGNATURE, number, str(error))
            self._ledger.skip(record)
            return
        # What follows computes with numbers that only the coordinator's key could have put there.
        try:
            problems = self._ledger.problems(record)
        except (ValueError, ArithmeticError) as error:
            problems = (f"the record cannot be accounted: {error}",)
        for problem in problems:
            self._find(Code.CHAIN, number, problem)
        if problems:
            self._ledger.skip(record)
            return
        before = self._ledger.limit
        self._ledger.append(record)
        self._positions[record.link] = number
        if record.round is not None:
            self._check_epsilon(number, record.round.accounts.epsilon_after)
            facts = record.round.facts
            if facts.receipts and not facts.charged:
                self._uncharged[facts.federation, facts.round_id] = None
        elif before is not None and record.limit is not None and record.limit != before:
            change = LimitChange(number, before.epsilon, record.limit.epsilon)
            self._limit_changes.append(change)

    def _check_epsilon(self, number: int, epsilon: float) -> None:
        second = self._second_epsilon(epsilon)
        exact = all(
            mechanism.sum(plan.dimension).tau == 0 for mechanism, plan, _ in self._charged()
        )
        if second is None or epsilon < second * (1 - TOLERANCE):
            self._find(
                Code.ACCOUNTANT, number, f"epsilon {epsilon} is below dp-accounting's {second}"
            )
        elif exact and not math.isclose(epsilon, second, rel_tol=TOLERANCE):
            self._find(
                Code.ACCOUNTANT, number, f"epsilon {epsilon} differs from dp-accounting's {second}"
            )

    def _charged(self) -> list[tuple[Mechanism, PrivacyPlan, int]]:
        return [
            (Mechanism.of_plan(plan), plan, min(count, plan.max_participations))
            for _, plan, count in self._ledger.charges()
            if count > 0
        ]

    def _second_epsilon(self, epsilon: float) -> float | None:
        """The total by dp-accounting at the limit's order; None if delta does not suffice."""
        limit, delta = self._ledger.limit, self._delta_left(epsilon)
        if limit is None or delta <= 0:
            return None
        charged = [(mechanism, count) for mechanism, _, count in self._charged()]
        return renyi_epsilon(charged, limit.order, delta)

    def _delta_left(self, epsilon: float) -> float:
        """What the terms of delta beside the conversion leave for it."""
        if self._ledger.limit is None:
            return 0.0
        terms = self._ledger.total().terms
        sampler = (1 + math.exp(min(epsilon, 700.0))) * terms.sampler
        return self._ledger.limit.delta - terms.secagg - terms.cut - sampler

    def _check_receipts(self, receipts: Iterable[bytes]) -> int:
        statements: dict[tuple[str, str], RoundStatement] = {}
        given: dict[tuple[str, str], set[Receipt]] = {}
        for number, data in enumerate(receipts, 1):
            if len(self._findings) >= MOST_FINDINGS:
                break
            try:
                receipt = Receipt.from_bytes(data)
                statement = receipt.signed.statement
                if receipt.signed.coordinator not in self._keys:
                    raise ReceiptError("the statement is signed by a key that was not given")
                if statement.population != self._ledger.population:
                    raise ReceiptError(f"it is about population {statement.population!r}")
            except ReceiptError as error:
                self._find(Code.RECEIPT, None, f"receipt {number}: {error}")
                continue
            name = statement.federation, statement.round_id
            if statements.setdefault(name, statement) != statement:
                self._find(
                    Code.CONTRADICTION,
                    None,
                    f"receipt {number}: the coordinator stated something else about this round "
                    "to another participant",
                )
            given.setdefault(name, set()).add(receipt)
        for statement in statements.values():
            self._check_statement(statement, given[statement.federation, statement.round_id])
        return sum(map(len, given.values()))

    def _check_statement(self, statement: RoundStatement, receipts: set[Receipt]) -> None:
        name = f"round {statement.round_id} of {statement.federation}"
        head = self._positions.get(statement.head)
        if head is None:
            self._find(
                Code.FORK_OR_CUT,
                None,
                f"{name}: participants saw a ledger head that this file does not hold; its tail "
                "was cut, or it is another ledger than theirs",
            )
        record = self._ledger.round(statement.federation, statement.round_id)
        if record is None or record.round is None:
            self._find(
                Code.UNLOGGED, None, f"{name} has receipts and no record: unlogged, or cut off"
            )
            return
        facts = record.round.facts
        if head is not None and head >= self._positions[record.link]:
            self._find(Code.FORK_OR_CUT, None, f"{name} is logged before a head that preceded it")
        if (facts.plan_hash, facts.survivors_hash) != (
            statement.plan_hash,
            statement.survivors_hash,
        ):
            self._find(
                Code.CONTRADICTION, None, f"{name} is logged with another plan or other survivors"
            )
        if not facts.charged:
            self._uncharged[facts.federation, facts.round_id] = None
        self._check_numbers(name, facts, receipts)

    def _check_numbers(self, name: str, facts: RoundFacts, receipts: set[Receipt]) -> None:
        participants = {receipt.participant for receipt in receipts}
        # A hash fixes its set, and so the set's size: no participant can bring this about.
        if (
            survivors_hash(participants) == facts.survivors_hash
            and len(participants) != facts.survivors
        ):
            self._find(
                Code.CONTRADICTION,
                None,
                f"{name} is logged with {facts.survivors} survivors, and their hash is that of "
                f"{len(participants)}",
            )
        same = receipts_hash(receipts) == facts.receipts_hash
        if same and len(receipts) != facts.receipts:
            self._find(
                Code.CONTRADICTION,
                None,
                f"{name} is logged with {facts.receipts} receipts, and their hash is that of "
                f"{len(receipts)}",
            )
        # Participants alone can bring this about, so it convicts nobody.
        least = min(facts.receipts or 0, facts.survivors or 0)
        if len(participants) > least or (len(receipts) == facts.receipts and not same):
            self._other_receipts[facts.federation, facts.round_id] = None

    def _report(self, receipts: int) -> VerificationReport:
        limit = self._ledger.limit
        epsilon = renyi = pld = None
        charged = [(mechanism, count) for mechanism, _, count in self._charged()]
        if limit is not None:
            epsilon = limit.epsilon_of(self._ledger.total())
            renyi = self._second_epsilon(epsilon)
            if charged and not self._findings and epsilon <= LARGEST_PLD_EPSILON:
                pld = pld_epsilon(charged, self._delta_left(epsilon))
                if pld > epsilon * (1 + TOLERANCE):
                    self._find(
                        Code.ACCOUNTANT,
                        None,
                        f"epsilon {epsilon} is below the bound {pld} from privacy loss "
                        "distributions, which should be the tighter one",
                    )
        return VerificationReport(
            population=self._ledger.population,
            head=self._ledger.head,
            records=len(self._positions),
            rounds_charged=sum(count for _, _, count in self._ledger.charges()),
            receipts=receipts,
            uncharged=tuple(self._uncharged),
            other_receipts=tuple(self._other_receipts),
            limit_changes=tuple(self._limit_changes),
            unit=None if limit is None else limit.unit,
            modes=tuple(dict.fromkeys(plan.mode for _, plan, _ in self._charged())),
            epsilon=epsilon,
            delta=None if limit is None else limit.delta,
            epsilon_renyi=renyi,
            epsilon_pld=pld,
            findings=tuple(self._findings),
        )
