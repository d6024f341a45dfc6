"""The ledger as an auditor reads it: lines, the file, and what its verification says."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sqlalchemy.orm import Session

from federation.coordinator import federations, overview, populations
from federation.coordinator.authority import Authority
from federation.signed import Signed
from federation.versions import Version
from privacy.canonical import JsonValue
from privacy.ledger_records import SealedRecord, unseal
from privacy.records import to_json
from privacy.signing import Domain
from storage.coordinator_tables import VersionRow

if TYPE_CHECKING:
    from privacy.verification_report import VerificationReport


@dataclass(frozen=True, slots=True)
class Provenance:
    """A version and the sealed ledger record of the round that released it, None for the first."""

    row: VersionRow
    record: SealedRecord | None


def export(session: Session, population: str) -> bytes:
    """The ledger file: sealed records as JSON lines.

    Raises:
        RefusedError: unknown_population.
    """
    overview.population(session, population)
    return b"".join(populations.lines(session, population))


def verification(session: Session, authority: Authority, population: str) -> VerificationReport:
    """What `alcove audit verify` says of the file with the coordinator's key and its receipts.

    Raises:
        RefusedError: unknown_population.
    """
    # The second accountant takes a second and 30 MB to import, and only this needs it.
    from privacy.verification import verify

    file = io.BytesIO(export(session, population))
    return verify(file, [authority.identity], overview.receipts(session, population))


def provenance(session: Session, authority: Authority, federation: str) -> tuple[Provenance, ...]:
    """Each version of a federation with the record of its round.

    Raises:
        RefusedError: unknown_federation.
    """
    found = federations.get(session, federation)
    sealed = map(unseal, populations.lines(session, found.population))
    by_round = {
        (line.record.round.facts.federation, line.record.round.facts.round_id): line
        for line in sealed
        if line.record.round is not None
    }
    rows = []
    for row in overview.all_versions(session, federation):
        version = Signed.from_bytes(row.record, Version, Domain.VERSION, authority.identity).record
        rows.append(
            Provenance(
                row,
                None if version.round_id is None else by_round.get((federation, version.round_id)),
            )
        )
    return tuple(rows)


def line_json(line: bytes) -> dict[str, JsonValue]:
    """A sealed line as JSON."""
    return cast(dict[str, JsonValue], to_json(unseal(line)))
