"""The roster of a population, for owners to compare fingerprints with each other."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node.auth import NodeDep, NodeOwner
from api.node.federation.memberships import MembershipId
from api.node.federation.refusals import refusals
from federation.participant.peers import Peer, UnknownPeerError, confirm, peers
from federation.roster import fingerprint, read_fingerprint

router = APIRouter()


class PeerBody(RowBody):
    name: str
    identity: str
    fingerprint: str
    confirmed: bool
    own: bool


class PeerList(BaseModel):
    data: list[PeerBody]


class Confirmation(BaseModel):
    """`fingerprint` as the peer's owner read it out."""

    fingerprint: str = Field(max_length=200)


@router.get("/memberships/{membership}/peers", responses=responses(404))
def list_peers(node: NodeDep, _owner: NodeOwner, membership: MembershipId) -> PeerList:
    """The roster, with fingerprints to compare with the peers' owners by another way."""
    with refusals():
        found = node.federation.membership(membership)
    with node.database.read() as session:
        return PeerList(data=[_body(peer) for peer in peers(session, found)])


@router.put("/memberships/{membership}/peers", responses=responses(404))
def confirm_peer(
    node: NodeDep, _owner: NodeOwner, membership: MembershipId, heard: Confirmation
) -> PeerBody:
    """Say that a peer's owner has read out this fingerprint."""
    with refusals():
        found = node.federation.membership(membership)
    try:
        identity = read_fingerprint(heard.fingerprint)
    except ValueError as error:
        raise ApiError(400, "bad_fingerprint", str(error), param="fingerprint") from error
    try:
        with node.database.write() as session:
            return _body(confirm(session, found, identity))
    except UnknownPeerError as error:
        raise ApiError(404, "peer_not_found", str(error), param="fingerprint") from error


def _body(peer: Peer) -> PeerBody:
    return PeerBody.of(peer, fingerprint=fingerprint(peer.identity))
