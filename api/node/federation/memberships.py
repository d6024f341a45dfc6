"""Memberships: joined, paused and left; the node's key in each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from api.bodies import RowBody
from api.errors import responses
from api.node.auth import NodeDep, NodeOwner
from api.node.federation.refusals import refusals
from api.node.node import Node
from federation.roster import LONGEST_NAME, fingerprint
from storage.membership_tables import Membership, MembershipState

router = APIRouter()

MembershipId = Annotated[str, Path(max_length=100)]


class NewMembership(BaseModel):
    """`token` is what the coordinator's admin handed over; `name` is shown on the roster."""

    url: str = Field(max_length=1_000)
    token: str = Field(max_length=200)
    name: str = Field(min_length=1, max_length=LONGEST_NAME)


class MembershipBody(RowBody):
    """`fingerprint` is the node's own, for other owners to confirm; `coordinator` is the
    coordinator's public key. `problem` says what keeps the node from taking part."""

    id: str
    url: str
    coordinator: str
    population: str | None
    name: str
    fingerprint: str
    state: MembershipState
    paused: bool
    created_at: int
    problem: str | None


class MembershipList(BaseModel):
    data: list[MembershipBody]


class Paused(BaseModel):
    paused: bool


@router.post("/memberships", status_code=201, responses=responses(409, 503))
def join(node: NodeDep, _owner: NodeOwner, new: NewMembership) -> MembershipBody:
    """Enrol with a coordinator; its admin still has to approve."""
    with refusals():
        membership = node.federation.join(new.url, new.token, new.name)
    return _body(node, membership)


@router.get("/memberships")
def list_memberships(node: NodeDep, _owner: NodeOwner) -> MembershipList:
    """All, those that were left too."""
    return MembershipList(data=[_body(node, one) for one in node.federation.memberships()])


@router.delete("/memberships/{membership}", status_code=204, responses=responses(404))
def leave(node: NodeDep, _owner: NodeOwner, membership: MembershipId) -> Response:
    """Take part no more. What was spent stays spent."""
    with refusals():
        node.federation.leave(membership)
    return Response(status_code=204)


@router.put("/memberships/{membership}/paused", responses=responses(404))
def pause(
    node: NodeDep, _owner: NodeOwner, membership: MembershipId, wanted: Paused
) -> MembershipBody:
    """Enter no new rounds, or enter them again."""
    with refusals():
        node.federation.pause(membership, wanted.paused)
        return _body(node, node.federation.membership(membership))


@router.post("/memberships/{membership}/identity", responses=responses(404, 409, 503))
def rotate(node: NodeDep, _owner: NodeOwner, membership: MembershipId) -> MembershipBody:
    """Replace the node's identity key by a new one; other owners have to confirm it anew."""
    with refusals():
        node.federation.rotate(membership)
        return _body(node, node.federation.membership(membership))


def _body(node: Node, row: Membership) -> MembershipBody:
    problem = node.federation.problem_of(row.id)
    return MembershipBody.of(row, fingerprint=fingerprint(row.identity), problem=problem)
