"""A coordinator, its participants and a small ledger, all with real keys and real signatures."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.ledger import Ledger
from privacy.ledger_records import Aggregation, Result, RoundFacts, ThreatModel, seal
from privacy.limits import RenyiFilter, Unit
from privacy.plan import Mode, PrivacyPlan
from privacy.receipts import (
    Receipt,
    RoundStatement,
    SignedStatement,
    receipts_hash,
    survivors_hash,
)
from privacy.signing import public_key_hex

TIME = "2026-11-22T12:00:00Z"


def key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def hex_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def client_plan(noise_multiplier: float = 4.0, participations: int = 5) -> PrivacyPlan:
    return PrivacyPlan(
        mode=Mode.CLIENT,
        dimension=1024,
        clip_norm=1.0,
        grid=1 / 3200,
        noise_multiplier=noise_multiplier,
        cohort=100,
        min_survivors=3,
        colluders=1,
        rounds=20,
        max_participations=participations,
        delta=1e-6,
    )


def document_plan() -> PrivacyPlan:
    return PrivacyPlan(
        mode=Mode.DOCUMENT,
        dimension=1024,
        clip_norm=1.0,
        grid=1 / 3200,
        noise_multiplier=1.0,
        cohort=5,
        min_survivors=3,
        colluders=1,
        rounds=500,
        max_participations=500,
        delta=1e-6,
        sampling_rate=256 / 50_000,
        row_cap=512,
        planned_rows=50_000,
    )


class Coordinator:
    """Runs rounds on paper: signs statements, collects receipts and writes the ledger."""

    def __init__(
        self,
        population: str = "clinics",
        name: str = "coordinator",
        unit: Unit = Unit.NODE,
        order: int = 8,
        epsilon: float = 8.0,
    ) -> None:
        self.population = population
        self.key = key(name)
        self.ledger = Ledger()
        self.lines: list[bytes] = []
        self.receipts: dict[str, list[Receipt]] = {}
        limit = RenyiFilter(unit, order, epsilon, 1e-6)
        self.write(self.ledger.next_limit(population, limit, TIME))

    @property
    def public_key(self) -> str:
        return public_key_hex(self.key)

    @property
    def file(self) -> bytes:
        return b"".join(self.lines)

    @property
    def all_receipts(self) -> list[bytes]:
        return [receipt.to_bytes() for kept in self.receipts.values() for receipt in kept]

    def write(self, record: object, *, check: bool = True) -> None:
        self.lines.append(seal(record, self.key))  # type: ignore[arg-type]
        if check:
            self.ledger.append(record)  # type: ignore[arg-type]
        else:
            self.ledger.skip(record)  # type: ignore[arg-type]

    def statement(self, round_id: str, federation: str = "ward") -> RoundStatement:
        return RoundStatement(
            population=self.population,
            federation=federation,
            round_id=round_id,
            plan_hash=hex_hash(f"plan of {federation}"),
            survivors_hash=survivors_hash(public_key_hex(key(f"node {i}")) for i in range(3)),
            head=self.ledger.head,
        )

    def collect(self, round_id: str, federation: str = "ward") -> list[Receipt]:
        signed = SignedStatement.issue(self.statement(round_id, federation), self.key)
        kept = [Receipt.countersign(signed, key(f"node {i}")) for i in range(3)]
        self.receipts[f"{federation}/{round_id}"] = kept
        return kept

    def facts(
        self, round_id: str, federation: str = "ward", plan: PrivacyPlan | None = None
    ) -> RoundFacts:
        receipts = self.collect(round_id, federation)
        statement = receipts[0].signed.statement
        return RoundFacts(
            federation=federation,
            round_id=round_id,
            run_id=statement.plan_hash,
            plan=plan or client_plan(),
            plan_hash=statement.plan_hash,
            code_commit="0123456789abcdef0123456789abcdef01234567",
            lock_hash=hex_hash("lock"),
            model_in=hex_hash(f"model {round_id}"),
            model_out=hex_hash(f"model {round_id} + 1"),
            aggregation=Aggregation(ThreatModel.HONEST_BUT_CURIOUS, 99, 67, 40, 20),
            survivors=3,
            survivors_hash=statement.survivors_hash,
            receipts=len(receipts),
            receipts_hash=receipts_hash(receipts),
            charged=True,
            result=Result.RELEASED,
            reason=None,
        )

    def run_round(
        self, round_id: str, federation: str = "ward", plan: PrivacyPlan | None = None
    ) -> None:
        self.write(self.ledger.next_round(self.facts(round_id, federation, plan), TIME))

    def abort_round(self, round_id: str, federation: str = "ward") -> None:
        facts = replace(
            self.facts(round_id, federation),
            model_out=None,
            charged=False,
            result=Result.ABORTED,
            reason="too few survivors",
        )
        self.write(self.ledger.next_round(facts, TIME))


def small_ledger() -> Coordinator:
    """Five charged rounds of two federations, and one that was aborted before any charge."""
    coordinator = Coordinator()
    coordinator.run_round("1")
    coordinator.run_round("2")
    coordinator.abort_round("3")
    coordinator.run_round("1", federation="lab")
    coordinator.run_round("4")
    coordinator.run_round("2", federation="lab")
    return coordinator
