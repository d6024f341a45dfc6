"""A served node with a past in federations, which takes part in a real one too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import httpx
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.participants import Participant
from federation.adapter_spec import parameters_to_bytes
from federation.participant.consent import Consent
from federation.participant.identity import FederationHome
from federation.plan import FederationPlan
from federation.signed import Signed
from privacy.receipts import Receipt, RoundStatement, SignedStatement
from privacy.signing import Domain, public_key_hex
from storage.home import NodeHome, write_private
from storage.membership_tables import (
    Contribution,
    KnownPlan,
    Membership,
    MembershipState,
    Outcome,
    SharedVersion,
    VersionState,
)
from tests.coordinators import admit, noisy_vector
from tests.federation.participant.plans import BASIS, SIZE, make_plan
from tests.federation.participant.sites import LearningSite, learning_site, until
from tests.nodes import open_database
from tests.pages.nodes import ServedNode, served_node

HOSTILE = "<script>window.hurt = 1</script><img src=x onerror='window.hurt = 1'>"
PEERS = ("East surgery", HOSTILE)
ROUNDS = 22
"""More than the page shows at first."""
DAY = 86_400
FIRST = 1_790_000_000


@dataclass
class FederatedNode:
    """A served node; `site` is the coordinator that it takes part at, by `membership`."""

    node: ServedNode
    site: LearningSite
    membership: str
    planted: FederationPlan


@contextmanager
def federated_node(folder: Path, base_model: str) -> Iterator[FederatedNode]:
    """A node whose generators and embedder are the packaged ones.

    Args:
        base_model: identity of the packaged embedder.
    """
    with ExitStack() as stack:
        site = stack.enter_context(learning_site(folder / "coordinator", base_model))
        for name in PEERS:
            enrol(stack, site, name)
        planted = make_plan(base_model, federation="referrals")
        node = stack.enter_context(served_node(folder / "node", lambda home: plant(home, planted)))
        made = node.owner.post(
            "/v1/federation/memberships",
            json={"url": site.url, "token": site.token(), "name": "North clinic"},
        )
        membership: str = made.raise_for_status().json()["id"]
        site.approve_all()
        peers = f"/v1/federation/memberships/{membership}/peers"
        until(lambda: node.owner.get(peers).json()["data"], "the roster is there")
        yield FederatedNode(node, site, membership, planted)


def enrol(stack: ExitStack, site: LearningSite, name: str) -> Participant:
    """Another participant of a coordinator, approved."""
    http = stack.enter_context(httpx.Client(base_url=site.url, timeout=60))
    participant = Participant(http, site.plan.coordinator, noisy_vector)
    admit(site.authority, participant, name)
    return participant


def plant(root: Path, plan: FederationPlan) -> None:
    """Rounds, receipts, versions and debits under a membership that was left since, in the folder
    of a node that is not served yet."""
    key, home = Ed25519PrivateKey.generate(), FederationHome(root / "federation")
    foreign = replace(plan, federation="letters")
    with open_database(NodeHome(root).database) as database:
        with database.write() as session:
            session.add(_former_membership(key))
            session.add(_revoked_membership(key))
            session.flush()
            for one, shown_as in ((plan, plan.federation), (foreign, HOSTILE)):
                session.add(
                    KnownPlan(
                        plan_hash=one.hash,
                        membership_id="membership-before",
                        federation=shown_as,
                        plan=Signed.issue(one, Domain.PLAN, key).to_bytes(),
                    )
                )
            session.flush()
            session.add_all(_contributions(plan, foreign, key))
            session.add_all(_versions(plan, foreign))
        consent = Consent(database, home)
        odometer = consent.open_odometer()
        for number in range(plan.privacy.max_participations):
            assert odometer.debit(plan.run, f"round-{number}")
        consent.close()
    home.create()
    write_private(home.files / sha256(BASIS).hexdigest(), BASIS)


def _former_membership(key: Ed25519PrivateKey) -> Membership:
    return Membership(
        id="membership-before",
        url="https://before.example",
        coordinator=public_key_hex(key),
        name=HOSTILE,
        identity="1d" * 32,
        state=MembershipState.LEFT,
        created_at=FIRST,
    )


def _revoked_membership(key: Ed25519PrivateKey) -> Membership:
    return Membership(
        id="membership-revoked",
        url="https://revoked.example",
        coordinator=public_key_hex(key),
        name="North clinic",
        identity="2e" * 32,
        state=MembershipState.REVOKED,
        created_at=FIRST,
    )


def _contributions(
    plan: FederationPlan, foreign: FederationPlan, key: Ed25519PrivateKey
) -> Iterator[Contribution]:
    for number in range(ROUNDS):
        yield Contribution(
            round_id=f"round-{number}",
            plan_hash=plan.hash,
            federation=plan.federation,
            number=number,
            seen_at=FIRST + number * DAY,
            outcome=Outcome.FINISHED,
            sent_at=FIRST + number * DAY + 600,
            sent_bytes=4 * SIZE + 300,
            sent_hash=sha256(b"%d" % number).hexdigest(),
            receipt=_receipt(plan, number, key),
        )
    yield Contribution(
        round_id="round-elsewhere",
        plan_hash=foreign.hash,
        federation=HOSTILE,
        number=0,
        seen_at=FIRST + ROUNDS * DAY,
        outcome=Outcome.LEFT,
        reason=f"the coordinator said {HOSTILE}",
    )


def _receipt(plan: FederationPlan, number: int, key: Ed25519PrivateKey) -> bytes:
    statement = RoundStatement(
        population=plan.population,
        federation=plan.federation,
        round_id=f"round-{number}",
        plan_hash=plan.hash,
        survivors_hash=sha256(b"survivors").hexdigest(),
        head=sha256(b"head %d" % number).hexdigest(),
    )
    signed = SignedStatement.issue(statement, key)
    return Receipt.countersign(signed, Ed25519PrivateKey.generate()).to_bytes()


def _versions(plan: FederationPlan, foreign: FederationPlan) -> Iterator[SharedVersion]:
    trials: tuple[tuple[FederationPlan, VersionState, float | None, float | None], ...] = (
        (plan, VersionState.RETIRED, 0.512, 0.548),
        (plan, VersionState.HARMFUL, 0.512, 0.497),
        (plan, VersionState.SERVED, 0.512, 0.603),
        (foreign, VersionState.UNTESTED, None, None),
    )
    for number, (one, state, before, after) in enumerate(trials, 1):
        yield SharedVersion(
            plan_hash=one.hash,
            number=number,
            record=b"{}",
            parameters=parameters_to_bytes(np.zeros(SIZE, np.float32)),
            state=state,
            examples=0 if before is None else 24,
            before=before,
            after=after,
            tried_at=FIRST + number * 7 * DAY,
        )
