"""The owner's side of federations: joining, consent, what was spent, sent and is served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field
from sqlalchemy import select

from api.errors import ApiError, responses
from api.node.auth import ModelsDep, NodeDep, NodeOwner
from api.node.node import Node
from federation.adapter_spec import AdapterKind
from federation.participant.adoption import VersionError, read_known_plan
from federation.participant.consent import PolicyError
from federation.participant.coordinator_client import (
    CoordinatorError,
    RefusedError,
    UnreachableError,
)
from federation.participant.policy import ConsentPolicy
from federation.participant.service import FederationError, UnknownMembershipError
from federation.roster import LONGEST_NAME, Roster, fingerprint, read_fingerprint
from federation.signed import Signed
from privacy.guarantee import epsilons
from privacy.signing import Domain
from storage.node_tables import (
    ConfirmedPeer,
    Contribution,
    KnownPlan,
    Membership,
    MembershipState,
    Outcome,
    SharedVersion,
    VersionState,
)

router = APIRouter(prefix="/v1", tags=["Federation"], responses=responses(400, 401, 403))

MembershipId = Annotated[str, Path(max_length=100)]
PlanHash = Annotated[str, Path(max_length=64)]


class NewMembership(BaseModel):
    """`token` is what the coordinator's admin handed over; `name` is shown on the roster."""

    url: str = Field(max_length=1_000)
    token: str = Field(max_length=200)
    name: str = Field(min_length=1, max_length=LONGEST_NAME)


class MembershipBody(BaseModel):
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


class PeerBody(BaseModel):
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


class EpsilonBody(BaseModel):
    """An epsilon with everything without which it means nothing."""

    epsilon: float
    epsilon_two_nodes: float | None
    delta: float
    mode: str
    unit: str
    adjacency: str
    trust: str


class PlanBody(BaseModel):
    """`accepted` if `refusals` is empty."""

    membership: str
    federation: str
    plan_hash: str
    adapter: str
    accepted: bool
    refusals: list[str]
    coordinator: EpsilonBody
    release: EpsilonBody
    alone: EpsilonBody


class ModuleBody(BaseModel):
    """A linear module, by its name in the model, with the lengths of what goes in and out."""

    name: str
    inputs: int
    outputs: int


class ModelBody(BaseModel):
    """`identity` is how plans name the model; `dimension` is that of an embedder's vectors,
    `modules` are those of a generator that an adapter is usually for."""

    kind: AdapterKind
    identity: str
    dimension: int | None
    modules: list[ModuleBody]


class ModelList(BaseModel):
    data: list[ModelBody]


class PlanList(BaseModel):
    data: list[PlanBody]


class OdometerBody(BaseModel):
    """What one subject may have lost to all coordinators together. `debits` counts rounds.
    Null fields: nothing was ever joined."""

    unit: str = "subject"
    epsilon_spent: float | None
    epsilon_limit: float | None
    delta: float | None
    order: int | None
    debits: int


class ContributionBody(BaseModel):
    """A round that the node entered, and what left it: one masked vector of `sent_bytes`."""

    round_id: str
    federation: str
    plan_hash: str
    seen_at: float
    outcome: Outcome
    reason: str | None
    sent_at: int | None
    sent_bytes: int | None
    sent_hash: str | None
    receipt: bool


class ContributionList(BaseModel):
    data: list[ContributionBody]


class VersionBody(BaseModel):
    """`before` and `after` are of `examples` questions that were held back: of a retriever MRR@10,
    of a generator the mean loss of the answers, which is better the lower."""

    federation: str
    adapter: AdapterKind
    plan_hash: str
    number: int
    state: VersionState
    pinned: bool
    examples: int
    before: float | None
    after: float | None
    tried_at: int


class VersionList(BaseModel):
    data: list[VersionBody]


class Choice(StrEnum):
    PIN = "pin"
    REFUSE = "refuse"


class VersionChoice(BaseModel):
    choice: Choice


@router.post("/federation/memberships", status_code=201, responses=responses(409, 503))
def join(node: NodeDep, _owner: NodeOwner, new: NewMembership) -> MembershipBody:
    """Enrol with a coordinator; its admin still has to approve."""
    with _refusals():
        membership = node.federation.join(new.url, new.token, new.name)
    return _membership(node, membership)


@router.get("/federation/memberships")
def list_memberships(node: NodeDep, _owner: NodeOwner) -> MembershipList:
    """All, those that were left too."""
    return MembershipList(data=[_membership(node, one) for one in node.federation.memberships()])


@router.delete("/federation/memberships/{membership}", status_code=204, responses=responses(404))
def leave(node: NodeDep, _owner: NodeOwner, membership: MembershipId) -> Response:
    """Take part no more. What was spent stays spent."""
    with _refusals():
        node.federation.leave(membership)
    return Response(status_code=204)


@router.put("/federation/memberships/{membership}/paused", responses=responses(404))
def pause(
    node: NodeDep, _owner: NodeOwner, membership: MembershipId, wanted: Paused
) -> MembershipBody:
    """Enter no new rounds, or enter them again."""
    with _refusals():
        node.federation.pause(membership, wanted.paused)
        return _membership(node, node.federation.membership(membership))


@router.post("/federation/memberships/{membership}/identity", responses=responses(404, 409, 503))
def rotate(node: NodeDep, _owner: NodeOwner, membership: MembershipId) -> MembershipBody:
    """Replace the node's identity key by a new one; other owners have to confirm it anew."""
    with _refusals():
        node.federation.rotate(membership)
        return _membership(node, node.federation.membership(membership))


@router.get("/federation/memberships/{membership}/peers", responses=responses(404))
def list_peers(node: NodeDep, _owner: NodeOwner, membership: MembershipId) -> PeerList:
    """The roster, with fingerprints to compare with the peers' owners by another way."""
    with _refusals():
        return PeerList(data=_peers(node, node.federation.membership(membership)))


@router.put("/federation/memberships/{membership}/peers", responses=responses(404))
def confirm_peer(
    node: NodeDep, _owner: NodeOwner, membership: MembershipId, heard: Confirmation
) -> PeerBody:
    """Say that a peer's owner has read out this fingerprint."""
    with _refusals():
        found = node.federation.membership(membership)
        try:
            identity = read_fingerprint(heard.fingerprint)
        except ValueError as error:
            raise ApiError(400, "bad_fingerprint", str(error), param="fingerprint") from error
        if all(peer.identity != identity for peer in _peers(node, found)):
            raise ApiError(
                404, "peer_not_found", "nobody on the roster has this fingerprint",
                param="fingerprint",
            )  # fmt: skip
        with node.database.write() as session:
            if session.get(ConfirmedPeer, (found.id, identity)) is None:
                session.add(ConfirmedPeer(membership_id=found.id, identity=identity))
        return next(peer for peer in _peers(node, found) if peer.identity == identity)


@router.get("/federation/plans")
def list_plans(node: NodeDep, _owner: NodeOwner) -> PlanList:
    """The plans that the node has seen, what they would cost, and why some are refused."""
    with node.database.read() as session:
        rows = session.scalars(select(KnownPlan).order_by(KnownPlan.seen_at)).all()
    return PlanList(data=[_plan(row) for row in rows])


@router.get("/federation/models", responses=responses(503))
def list_models(node: NodeDep, _models: ModelsDep, _owner: NodeOwner) -> ModelList:
    """The models of this node that a federation may adapt, for whoever plans one."""
    found = node.federation.base_models()
    return ModelList(
        data=[
            ModelBody(
                kind=kind,
                identity=model.identity,
                dimension=model.dimension,
                modules=[ModuleBody(**asdict(module)) for module in model.modules],
            )
            for kind, model in found.items()
        ]
    )


@router.get("/federation/policy")
def get_policy(node: NodeDep, _owner: NodeOwner) -> ConsentPolicy:
    """What the owner agrees to."""
    with _refusals():
        return node.federation.consent.policy


@router.put("/federation/policy", responses=responses(409))
def put_policy(node: NodeDep, _owner: NodeOwner, policy: ConsentPolicy) -> ConsentPolicy:
    """Change it; fields that are left out take their safe defaults. Nothing spent is forgotten."""
    with _refusals():
        node.federation.consent.set_policy(policy)
    node.federation.refresh()
    return policy


@router.get("/federation/odometer")
def get_odometer(node: NodeDep, _owner: NodeOwner) -> OdometerBody:
    """What was spent so far, and the limit."""
    with _refusals():
        file = node.federation.odometer()
    with node.database.read() as session:
        debits = len(
            session.scalars(select(Contribution).where(Contribution.sent_at.is_not(None))).all()
        )
    if file is None:
        return OdometerBody(
            epsilon_spent=None, epsilon_limit=None, delta=None, order=None, debits=debits
        )
    limit = file.odometer.limit
    return OdometerBody(
        epsilon_spent=file.odometer.epsilon_spent(),
        epsilon_limit=limit.epsilon,
        delta=limit.delta,
        order=limit.order,
        debits=debits,
    )


@router.get("/federation/contributions")
def list_contributions(node: NodeDep, _owner: NodeOwner) -> ContributionList:
    """Every round that the node entered, the newest first."""
    with node.database.read() as session:
        rows = session.scalars(select(Contribution).order_by(Contribution.number.desc())).all()
    return ContributionList(data=[_contribution(row) for row in rows])


@router.get("/federation/receipts/{round_id}", responses=responses(404))
def get_receipt(
    node: NodeDep, _owner: NodeOwner, round_id: Annotated[str, Path(max_length=100)]
) -> Response:
    """The countersigned statement of a round, for `alcove audit verify --receipts`."""
    with node.database.read() as session:
        row = session.get(Contribution, round_id)
    if row is None or row.receipt is None:
        raise ApiError(404, "receipt_not_found", f"there is no receipt of round {round_id!r}")
    return Response(row.receipt, media_type="application/json")


@router.get("/federation/versions")
def list_versions(node: NodeDep, _owner: NodeOwner) -> VersionList:
    """The shared versions that the node has tried."""
    with node.database.read() as session:
        rows = session.execute(
            select(SharedVersion, KnownPlan)
            .join(KnownPlan, KnownPlan.plan_hash == SharedVersion.plan_hash)
            .order_by(SharedVersion.tried_at.desc())
        ).all()
    return VersionList(data=[_version(row, known) for row, known in rows])


@router.put("/federation/versions/{plan_hash}/{number}", responses=responses(404, 503))
def choose_version(
    node: NodeDep,
    _owner: NodeOwner,
    plan_hash: PlanHash,
    number: Annotated[int, Path(ge=0, le=2**31)],
    wanted: VersionChoice,
) -> VersionList:
    """Serve a version whatever its trial said, or never."""
    adoption = node.federation.adoption
    if adoption is None:
        raise ApiError(503, "starting", "the node is still loading its models", retry_after=5)
    try:
        if wanted.choice is Choice.PIN:
            adoption.pin(plan_hash, number)
        else:
            adoption.refuse(plan_hash, number)
    except VersionError as error:
        raise ApiError(404, "version_not_found", str(error)) from error
    return list_versions(node, _owner)


@contextmanager
def _refusals() -> Iterator[None]:
    """Every way in which the service refuses, as the API's errors."""
    try:
        yield
    except UnknownMembershipError as error:
        raise ApiError(404, "membership_not_found", str(error)) from error
    except PolicyError as error:
        raise ApiError(409, "policy_fixed", str(error)) from error
    except FederationError as error:
        raise ApiError(400, "federation_refused", str(error)) from error
    except UnreachableError as error:
        raise ApiError(503, "coordinator_unreachable", str(error), retry_after=5) from error
    except RefusedError as error:
        message = f"the coordinator refused: {error}"
        raise ApiError(409, "coordinator_refused", message) from error
    except CoordinatorError as error:
        raise ApiError(409, "coordinator_not_believed", str(error)) from error


def _membership(node: Node, row: Membership) -> MembershipBody:
    return MembershipBody(
        id=row.id,
        url=row.url,
        coordinator=row.coordinator,
        population=row.population,
        name=row.name,
        fingerprint=fingerprint(row.identity),
        state=row.state,
        paused=row.paused,
        created_at=row.created_at,
        problem=node.federation.problem_of(row.id),
    )


def _peers(node: Node, membership: Membership) -> list[PeerBody]:
    if membership.roster is None:
        return []
    roster = Signed.from_bytes(
        membership.roster, Roster, Domain.ROSTER, membership.coordinator
    ).record
    with node.database.read() as session:
        own = select(ConfirmedPeer.identity).where(ConfirmedPeer.membership_id == membership.id)
        confirmed = set(session.scalars(own))
    return [
        PeerBody(
            name=member.name,
            identity=member.identity,
            fingerprint=fingerprint(member.identity),
            confirmed=member.identity in confirmed,
            own=member.identity == membership.identity,
        )
        for member in roster.members
    ]


def _plan(row: KnownPlan) -> PlanBody:
    plan = read_known_plan(row)
    spent = epsilons(plan.privacy)
    reasons = row.refusals.splitlines()

    def body(epsilon: Any) -> EpsilonBody:
        return EpsilonBody(
            epsilon=epsilon.value,
            epsilon_two_nodes=epsilon.two_nodes,
            delta=epsilon.delta,
            mode=epsilon.mode,
            unit=epsilon.unit,
            adjacency=epsilon.adjacency,
            trust=epsilon.trust,
        )

    return PlanBody(
        membership=row.membership_id,
        federation=row.federation,
        plan_hash=row.plan_hash,
        adapter=plan.adapter.kind,
        accepted=not reasons,
        refusals=reasons,
        coordinator=body(spent.coordinator),
        release=body(spent.release),
        alone=body(spent.alone),
    )


def _contribution(row: Contribution) -> ContributionBody:
    return ContributionBody(
        round_id=row.round_id,
        federation=row.federation,
        plan_hash=row.plan_hash,
        seen_at=row.seen_at,
        outcome=row.outcome,
        reason=row.reason,
        sent_at=row.sent_at,
        sent_bytes=row.sent_bytes,
        sent_hash=row.sent_hash,
        receipt=row.receipt is not None,
    )


def _version(row: SharedVersion, known: KnownPlan) -> VersionBody:
    return VersionBody(
        federation=known.federation,
        adapter=read_known_plan(known).adapter.kind,
        plan_hash=row.plan_hash,
        number=row.number,
        state=row.state,
        pinned=row.pinned,
        examples=row.examples,
        before=row.before,
        after=row.after,
        tried_at=row.tried_at,
    )
