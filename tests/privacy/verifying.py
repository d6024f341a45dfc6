"""What the tests of the verifier share: a genuine ledger, and the report on a file."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.canonical import canonical_bytes
from privacy.ledger import Ledger
from privacy.ledger_records import RoundRecord, seal, unseal
from privacy.verification import verify
from privacy.verification_report import Code, VerificationReport
from tests.privacy.ledger_factory import Coordinator, small_ledger


@cache
def genuine() -> Coordinator:
    return small_ledger()


def check(data: bytes, receipts: list[bytes] | None = None) -> VerificationReport:
    return verify(io.BytesIO(data), [genuine().public_key], receipts or [])


def codes(report: VerificationReport) -> set[Code]:
    return {finding.code for finding in report.findings}


@cache
def other_ledger() -> tuple[bytes, ...]:
    """The same coordinator's ledger of another population."""
    coordinator = Coordinator(population="schools")
    for i in range(1, 7):
        coordinator.run_round(str(i))
    return tuple(coordinator.lines)


def rewritten(signer: Ed25519PrivateKey | None) -> bytes:
    """The ledger with one survivor count changed and all later links computed anew."""
    ledger, lines = Ledger(), []
    for line in genuine().lines:
        sealed = unseal(line)
        record = replace(sealed.record, previous=ledger.head, sequence=ledger.length)
        if record.round is not None and record.round.facts.round_id == "2":
            facts = replace(record.round.facts, survivors=50)
            record = replace(record, round=RoundRecord(facts, record.round.accounts))
        ledger.append(record)
        if signer is None:
            value = json.loads(seal(record, genuine().key))
            value["signature"] = sealed.signature
            lines.append(canonical_bytes(value) + b"\n")
        else:
            lines.append(seal(record, signer))
    return b"".join(lines)
