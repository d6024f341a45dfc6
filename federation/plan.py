"""The signed plan of a federation: everything that a node agrees to before its first round."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from federation.adapter_spec import AdapterKind, AdapterSpec
from federation.secagg import Active, HonestButCurious, Refusal, ThreatModel
from federation.signed import Signed, SignedError, record_hash
from generation.training_terms import GeneratorTerms
from privacy.ledger_records import ThreatModel as ThreatModelName
from privacy.limits import Run
from privacy.plan import Mode, PrivacyPlan
from privacy.signing import Domain, check_hash
from retrieval.training_terms import MapTerms

FORMAT = "alcove-plan-1"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""Names of populations and federations."""

LONGEST_SECONDS = 7 * 86_400


class OptimiserName(StrEnum):
    """How the coordinator moves the parameters by a decoded mean (arXiv 2003.00295)."""

    FEDAVG = "fedavg"
    FEDADAM = "fedadam"


@dataclass(frozen=True, slots=True)
class Optimiser:
    """The server's step. In mode `client` the mean is an update, otherwise a gradient.

    Attributes:
        name: FedAvg (with momentum `beta1`, 0 for none) or FedAdam.
        learning_rate: factor of the step (eta).
        beta1, beta2: decay of the first and, in FedAdam, second moment.
        adaptivity: added to the root of the second moment in FedAdam (tau).
    """

    name: OptimiserName
    learning_rate: float
    beta1: float = 0.0
    beta2: float = 0.99
    adaptivity: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("learning_rate", "adaptivity"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, not {value}")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ValueError("beta1 and beta2 must lie in [0, 1)")


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a round waits, in seconds; none of it may follow from private data.

    Attributes:
        enlist_seconds: for nodes to say that they take part.
        phase_seconds: for each message of the protocol.
        training_seconds: from the invitation to the moment at which masked vectors leave,
            whatever the training took; rows that are not done by then count as zero rows.
        interval_seconds: from the end of one round to the start of the next.
    """

    enlist_seconds: float
    phase_seconds: float
    training_seconds: float
    interval_seconds: float

    def __post_init__(self) -> None:
        for name in ("enlist_seconds", "phase_seconds"):
            if not 0 < getattr(self, name) <= LONGEST_SECONDS:
                raise ValueError(f"{name} must lie between 0 and {LONGEST_SECONDS}")
        for name in ("training_seconds", "interval_seconds"):
            if not 0 <= getattr(self, name) <= LONGEST_SECONDS:
                raise ValueError(f"{name} must lie between 0 and {LONGEST_SECONDS}")


@dataclass(frozen=True, slots=True)
class FederationPlan:
    """One plan of one federation; its hash is bound into every signature, key and mask.

    Attributes:
        format: of this record.
        population: whose budget pays.
        federation: its name, unique in the coordinator.
        coordinator: public key that signs plan, invitations and versions, hexadecimal.
        adapter: what the vector means.
        privacy: from which every epsilon follows.
        threat_model: against which coordinator secure aggregation is run.
        timing: deadlines.
        optimiser: the server's step.
        map_terms, generator_terms: how nodes train; exactly the one of the adapter's kind.
        public_hash: SHA-256 of the file of public passages (JSON lines, each {"text": ...}) that
            serve every node as negatives or distractors.
        initial_hash: `parameters_hash` of the vector that the first round starts from.

    Raises:
        ValueError: the parts do not fit each other.
    """

    format: str
    population: str
    federation: str
    coordinator: str
    adapter: AdapterSpec
    privacy: PrivacyPlan
    threat_model: ThreatModelName
    timing: Timing
    optimiser: Optimiser
    map_terms: MapTerms | None
    generator_terms: GeneratorTerms | None
    public_hash: str
    initial_hash: str

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format {self.format[:40]!r} is not {FORMAT}")
        for name in (self.population, self.federation):
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"{name[:80]!r} is no name: lower-case letters, digits and '-', at most 63"
                )
        for value in (self.coordinator, self.public_hash, self.initial_hash):
            check_hash(value)
        if self.privacy.dimension != self.adapter.dimension:
            raise ValueError(
                f"the privacy plan is for {self.privacy.dimension} parameters, the adapter has "
                f"{self.adapter.dimension}"
            )
        retriever = self.adapter.kind is AdapterKind.RETRIEVER
        if (self.map_terms is not None, self.generator_terms is not None) != (
            retriever,
            not retriever,
        ):
            raise ValueError("a plan has the training terms of its adapter's kind and no others")
        try:
            self.aggregation(self.privacy.cohort)
        except Refusal as refusal:
            raise ValueError(f"secure aggregation: {refusal.detail}") from refusal

    @property
    def hash(self) -> str:
        """SHA-256 of the plan, 64 hexadecimal digits; also the id of its run."""
        return record_hash(self, Domain.PLAN)

    @property
    def run(self) -> Run:
        """The plan's rounds as the coordinator's budget counts them."""
        return Run.of_plan(self.hash, self.privacy)

    def aggregation(self, clients: int) -> ThreatModel:
        """The terms of secure aggregation among so many enlisted nodes.

        Raises:
            Refusal: they cannot be promised for that number.
        """
        kind = Active if self.threat_model is ThreatModelName.ACTIVE else HonestButCurious
        return kind.choose(clients, self.privacy.min_survivors, self.privacy.colluders)

    @property
    def rows_are_gradients(self) -> bool:
        """Whether nodes send gradients of subjects, not their own update of the parameters."""
        return self.privacy.mode is not Mode.CLIENT


SignedPlan = Signed[FederationPlan]


def read_plan(data: bytes, coordinator: str) -> SignedPlan:
    """A signed plan from the coordinator with this public key.

    Raises:
        SignedError: it is not one, or names another coordinator than its signer.
    """
    signed = Signed.from_bytes(data, FederationPlan, Domain.PLAN, coordinator)
    if signed.record.coordinator != coordinator:
        raise SignedError("the plan names another coordinator than its signer")
    return signed
