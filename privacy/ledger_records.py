"""The records of a ledger, and the signed line of canonical JSON (RFC 8785) that each one is.

A record holds what was declared and nothing that was measured on data: no losses, no example
counts, no norms. A field that is not listed here can be neither written nor read.
"""

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.accounting import DiscreteGaussianSum
from privacy.canonical import canonical_bytes, parse_canonical
from privacy.guarantee import ADJACENCY
from privacy.limits import Loss, RenyiFilter, Unit
from privacy.plan import RING, PrivacyPlan
from privacy.records import from_json, to_json
from privacy.signing import Domain, check_hash, digest, public_key_hex, sign, verify_signature

FORMAT = "alcove-ledger-1"
FIRST_LINK = "0" * 64
LARGEST_COHORT = 1_000_000


class ThreatModel(StrEnum):
    """Against which coordinator secure aggregation was run."""

    HONEST_BUT_CURIOUS = "honest_but_curious"
    ACTIVE = "active"


class Result(StrEnum):
    """How a round ended."""

    RELEASED = "released"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Aggregation:
    """Parameters of secure aggregation (Bell et al., IACR 2020/704).

    Attributes:
        threat_model: against which coordinator.
        neighbours: of each node in the graph (k).
        threshold: shares that open a secret (t).
        security_bits: minus log2 of the probability of opening more than the sum (sigma).
        correctness_bits: minus log2 of the probability of an avoidable abort (eta).
    """

    threat_model: ThreatModel
    neighbours: int
    threshold: int
    security_bits: int
    correctness_bits: int


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """What happened in a round, as the coordinator tells it.

    Attributes:
        federation, round_id, run_id: which round of which run (`limits.Run`).
        plan: the privacy terms of the signed plan.
        plan_hash: of the whole signed plan.
        code_commit, lock_hash: what ran: the commit and the hash of its lock file.
        model_in, model_out: hashes; `model_out` is None unless the round released a model.
        aggregation: how the sum was protected.
        survivors: number of inputs in the sum, None if it was never settled.
        survivors_hash: `receipts.survivors_hash`, None with `survivors`.
        receipts, receipts_hash: number and `receipts.receipts_hash` of the participants'
            receipts; None with `survivors`.
        charged: whether the budget was charged; a sum is only ever opened after that.
        result, reason: how the round ended; a reason exactly when it was aborted.
    """

    federation: str
    round_id: str
    run_id: str
    plan: PrivacyPlan
    plan_hash: str
    code_commit: str
    lock_hash: str
    model_in: str
    model_out: str | None
    aggregation: Aggregation
    survivors: int | None
    survivors_hash: str | None
    receipts: int | None
    receipts_hash: str | None
    charged: bool
    result: Result
    reason: str | None

    def __post_init__(self) -> None:
        for value in (self.plan_hash, self.lock_hash, self.model_in):
            check_hash(value)
        for optional in (self.model_out, self.survivors_hash, self.receipts_hash):
            if optional is not None:
                check_hash(optional)
        if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", self.code_commit):
            raise ValueError("code_commit is not a full commit hash")
        if self.plan.cohort > LARGEST_COHORT:
            raise ValueError(f"a cohort of more than {LARGEST_COHORT} is not accounted here")
        settled = (self.survivors, self.survivors_hash, self.receipts, self.receipts_hash)
        if any(value is None for value in settled) and settled != (None,) * 4:
            raise ValueError("survivors and receipts are either all known or all absent")
        if (self.result is Result.ABORTED) != (self.reason is not None):
            raise ValueError("a reason belongs to an aborted round, and to no other")
        if self.result is Result.RELEASED:
            self._check_released()
        elif self.model_out is not None:
            raise ValueError("an aborted round releases no model")

    def _check_released(self) -> None:
        if self.model_out is None or self.survivors is None or not self.charged:
            raise ValueError("a released round has a model and survivors, and was charged before")
        if not self.plan.min_survivors <= self.survivors <= self.plan.cohort:
            raise ValueError(
                f"a sum of {self.survivors} inputs was released, the plan allows "
                f"{self.plan.min_survivors} to {self.plan.cohort}"
            )


@dataclass(frozen=True, slots=True)
class Mechanism:
    """The mechanism of a round in grid units: all that its loss follows from.

    It repeats what the plan implies, so that a reader needs no code of this project to account it.
    """

    name: str
    unit: Unit
    adjacency: str
    sampling: str
    l2_squared: int
    l1: float
    share_sigma: float
    honest_shares: int
    sampling_rate: float
    modulus: int

    @staticmethod
    def of_plan(plan: PrivacyPlan) -> "Mechanism":
        """The mechanism of one round of `plan` as its coordinator sees it."""
        l2_squared = plan.sensitivity_squared
        return Mechanism(
            name="sum of discrete Gaussians",
            unit=Unit.of_mode(plan.mode),
            adjacency=ADJACENCY,
            sampling="none" if plan.sampling_rate == 1.0 else "Poisson, capped",
            l2_squared=l2_squared,
            l1=min(math.sqrt(plan.dimension * l2_squared), float(l2_squared)),
            share_sigma=plan.share_sigma,
            honest_shares=plan.min_survivors - plan.colluders,
            sampling_rate=plan.sampling_rate,
            modulus=RING,
        )

    def sum(self, dimension: int) -> DiscreteGaussianSum:
        """The unsampled mechanism for accounting."""
        return DiscreteGaussianSum(self.l2_squared, dimension, self.share_sigma, self.honest_shares)


@dataclass(frozen=True, slots=True)
class RoundAccounts:
    """What a round cost by the coordinator's own accountant.

    Attributes:
        mechanism: what was accounted.
        orders: Renyi orders of the divergences in `loss` and `total`.
        loss: of one participation.
        rho: zCDP of one participation; None where sampling is claimed.
        total: loss of the population after this record.
        epsilon_before, epsilon_after: at the limit's order and delta.
    """

    mechanism: Mechanism
    orders: tuple[int, ...]
    loss: Loss
    rho: float | None
    total: Loss
    epsilon_before: float
    epsilon_after: float


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A round in the ledger."""

    facts: RoundFacts
    accounts: RoundAccounts


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """One link of the chain: a limit (always the first record) or a round."""

    format: str
    population: str
    sequence: int
    previous: str
    time: str
    limit: RenyiFilter | None
    round: RoundRecord | None

    def __post_init__(self) -> None:
        check_hash(self.previous)
        if self.format != FORMAT:
            raise ValueError(f"format {self.format[:40]!r} is not {FORMAT}")
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", self.time):
            raise ValueError("time is written as YYYY-MM-DDThh:mm:ssZ")
        if (self.limit is None) == (self.round is None):
            raise ValueError("a record holds either a limit or a round")

    @property
    def link(self) -> str:
        """The hash that the next record names: of this record's canonical JSON."""
        return digest(Domain.LEDGER_LINK, canonical_bytes(to_json(self)))


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """A record with the public key of its signer and the signature, in hexadecimal."""

    record: LedgerRecord
    signer: str
    signature: str

    def check(self) -> None:
        """Verifies the signature; whose key it is, is for the caller to decide.

        Raises:
            BadSignatureError: if it does not hold.
        """
        message = canonical_bytes(to_json(self.record))
        verify_signature(self.signer, Domain.LEDGER_RECORD, message, self.signature)


def seal(record: LedgerRecord, key: Ed25519PrivateKey) -> bytes:
    """The line that stands for `record` in a ledger file, its line end included."""
    signature = sign(key, Domain.LEDGER_RECORD, canonical_bytes(to_json(record)))
    return canonical_bytes(to_json(SealedRecord(record, public_key_hex(key), signature))) + b"\n"


def unseal(line: bytes) -> SealedRecord:
    """The record in a line that `seal` wrote; its signature is not verified yet.

    Raises:
        ValueError: for anything else.
    """
    if not line.endswith(b"\n"):
        raise ValueError("the line has no end: it was cut")
    return from_json(SealedRecord, parse_canonical(line[:-1]))
