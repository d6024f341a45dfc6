"""What the verification of a ledger found, and in words what that does and does not show."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from privacy.limits import Unit
from privacy.plan import Mode

MOST_NAMES = 10
"""Rounds that one statement names; `VerificationReport` has them all."""

LONGEST_NAME = 60
"""Characters of a name in a statement."""


class Code(StrEnum):
    """Kinds of findings."""

    UNREADABLE = "unreadable"
    SIGNATURE = "signature"
    CHAIN = "chain"
    ACCOUNTANT = "accountant"
    RECEIPT = "receipt"
    FORK_OR_CUT = "fork_or_cut"
    UNLOGGED = "unlogged"
    CONTRADICTION = "contradiction"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; `line` counts from 1 and is None for findings about receipts."""

    code: Code
    line: int | None
    message: str


@dataclass(frozen=True, slots=True)
class LimitChange:
    """A record that changed the epsilon of the limit; `line` counts from 1."""

    line: int
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """The outcome of `verify`.

    Attributes:
        population, head, records: name, last hash and length of the chain.
        rounds_charged: rounds that cost something.
        receipts: valid receipts of this population that were checked.
        uncharged: (federation, round) of each round that is logged as not charged although the
            record counts receipts for it, or some were given.
        other_receipts: (federation, round) of each round for which more participants' receipts
            were given than the record counts receipts or survivors, or others than it counts.
        limit_changes: in the order of the file.
        unit: whom the limit and the epsilons are about; None without a readable limit.
        modes: of the charged plans, in the order of the file.
        epsilon, delta: of everything charged, at the limit's order, recomputed by this project's
            accountant; None without a readable limit.
        epsilon_renyi: the same by dp-accounting's RDP accountant at that order.
        epsilon_pld: by its PLD accountant, for information; None if there are findings, or if it
            is too large to be of use.
        findings: everything that is wrong, in the order of the file, then of the receipts.
    """

    population: str | None
    head: str
    records: int
    rounds_charged: int
    receipts: int
    uncharged: tuple[tuple[str, str], ...]
    other_receipts: tuple[tuple[str, str], ...]
    limit_changes: tuple[LimitChange, ...]
    unit: Unit | None
    modes: tuple[Mode, ...]
    epsilon: float | None
    delta: float | None
    epsilon_renyi: float | None
    epsilon_pld: float | None
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found; `statements` says what that does and does not mean."""
        return not self.findings

    def statements(self) -> tuple[str, ...]:
        """What this verification does and does not show, in sentences."""
        chain = (
            f"The chain of {self.records} records is intact: nothing inside it was changed, "
            "removed, inserted or moved, and each epsilon follows from the declared plans."
            if self.ok
            else f"The ledger is not accepted; findings: {len(self.findings)}."
        )
        no_receipts = (
            "None of the receipts given is valid"
            if any(finding.code is Code.RECEIPT for finding in self.findings)
            else "No receipts were given"
        )
        receipts = (
            f"{self.receipts} receipts were checked: for the rounds that they name, a cut tail, a "
            "fork or a missing record would have been found; for no others."
            if self.receipts
            else f"{no_receipts}: a tail that was cut off, a fork of the ledger and rounds that "
            "were never logged cannot be seen."
        )
        declared = (
            "This checks what was declared, not that the noise was added or that the participants "
            "were distinct and honest."
        )
        return chain, receipts, declared, *self._questions()

    def _questions(self) -> Iterator[str]:
        """What is no proof of anything wrong, and still for the auditor to ask about."""
        if self.uncharged:
            yield (
                f"Rounds with receipts that were logged as uncharged: {len(self.uncharged)} "
                f"({_named(self.uncharged)}). A round can end so honestly, and it can have been "
                "opened and kept out of the epsilon: neither ledger nor receipts tell. Its "
                "participants can say whether they released unmasking shares; if they did, count "
                "the round as charged."
            )
        if self.other_receipts:
            yield (
                "Rounds with more or other receipts than their records count: "
                f"{len(self.other_receipts)} ({_named(self.other_receipts)}). This proves nothing "
                "against the coordinator: a receipt can be lost on its way to it, and whoever "
                "holds a statement can countersign it under an invented key. Ask whose they are."
            )
        if self.limit_changes:
            changes = ", ".join(
                f"from epsilon {change.before} to {change.after} by record {change.line}"
                for change in self.limit_changes
            )
            yield (
                f"The limit was changed {changes}. Each raise is a new promise, and must not have "
                "been made because of what a run showed."
            )


def _named(rounds: tuple[tuple[str, str], ...]) -> str:
    names = [
        f"{round_id[:LONGEST_NAME]!r} of {federation[:LONGEST_NAME]!r}"
        for federation, round_id in rounds[:MOST_NAMES]
    ]
    if len(rounds) > MOST_NAMES:
        names.append(f"and {len(rounds) - MOST_NAMES} more")
    return ", ".join(names)
