"""The roster as the owner sees it, and the peers whose fingerprints the owner has compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.roster import Roster
from federation.signed import Signed
from privacy.signing import Domain
from storage.membership_tables import ConfirmedPeer, Membership


class UnknownPeerError(LookupError):
    """Nobody on the roster has this fingerprint."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A participant on the roster; `confirmed` by the node's owner, `own`: the node itself."""

    name: str
    identity: str
    confirmed: bool
    own: bool


def peers(session: Session, membership: Membership) -> Sequence[Peer]:
    """The roster that was seen last, by identity; empty before the first one."""
    if membership.roster is None:
        return []
    signed = Signed.from_bytes(membership.roster, Roster, Domain.ROSTER, membership.coordinator)
    own = select(ConfirmedPeer.identity).where(ConfirmedPeer.membership_id == membership.id)
    confirmed = set(session.scalars(own))
    return [
        Peer(
            name=member.name,
            identity=member.identity,
            confirmed=member.identity in confirmed,
            own=member.identity == membership.identity,
        )
        for member in signed.record.members
    ]


def confirm(session: Session, membership: Membership, identity: str) -> Peer:
    """Note that the peer's owner has read out the fingerprint of `identity`.

    Raises:
        UnknownPeerError: it is nobody's on the roster.
    """
    found = {peer.identity: peer for peer in peers(session, membership)}.get(identity)
    if found is None:
        raise UnknownPeerError("nobody on the roster has this fingerprint")
    if not found.confirmed:
        session.add(ConfirmedPeer(membership_id=membership.id, identity=identity))
    return replace(found, confirmed=True)
