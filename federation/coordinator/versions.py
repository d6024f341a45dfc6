"""Released versions of a federation's parameters: what rounds train from."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session, undefer

from federation.coordinator.authority import Authority
from federation.coordinator.refused import unknown
from federation.optimiser import OptimiserState
from federation.signed import Signed
from federation.versions import Version
from privacy.signing import Domain
from storage.coordinator_tables import VersionRow


def add(
    session: Session,
    authority: Authority,
    version: Version,
    parameters: bytes,
    moments: OptimiserState,
) -> None:
    """Sign and store a version, in the caller's transaction."""
    session.add(
        VersionRow(
            federation=version.federation,
            number=version.number,
            record=Signed.issue(version, Domain.VERSION, authority.key).to_bytes(),
            parameters_hash=version.parameters_hash,
            parameters=parameters,
            moments=moments.to_bytes(),
        )
    )
    session.flush()


def get(session: Session, federation: str, number: int, *, whole: bool = False) -> VersionRow:
    """One version, with its vector and moments if `whole`.

    Raises:
        RefusedError: unknown_version.
    """
    options = [undefer(VersionRow.parameters), undefer(VersionRow.moments)] if whole else []
    found = session.get(VersionRow, (federation, number), options=options)
    if found is None:
        raise unknown("unknown_version", f"{federation!r} has no version {number}")
    return found


def newest(session: Session, federation: str, *, whole: bool = False) -> VersionRow:
    """The version that the next round trains from."""
    query = (
        select(VersionRow)
        .where(VersionRow.federation == federation)
        .order_by(VersionRow.number.desc())
        .limit(1)
    )
    if whole:
        query = query.options(undefer(VersionRow.parameters), undefer(VersionRow.moments))
    return session.scalars(query).one()
