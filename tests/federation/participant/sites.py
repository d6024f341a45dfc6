"""Coordinators with a plan that nodes can train for, and real nodes that take part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sqlalchemy import select

from benchmarks.participants import Participant
from federation.adapter_spec import parameters_to_bytes
from federation.coordinator import enrolment, federations, populations
from federation.coordinator.authority import Authority
from federation.invitation import Stage
from federation.participant.policy import ConsentPolicy
from federation.participant.service import FederationService
from federation.plan import FederationPlan
from generation.engine import Engine
from retrieval import questions
from retrieval.embedding import Embedder
from retrieval.questions import NewQuestion
from storage.coordinator_tables import Message, ParticipantState, Round
from storage.coordinator_tables import Participant as ParticipantRow
from storage.membership_tables import (
    Contribution,
    KnownPlan,
    Membership,
    MembershipState,
    SharedVersion,
)
from storage.node_tables import Chunk
from storage.settings import NodeSettings
from tests.coordinators import Site, admit, coordinator, limit_for, noisy_vector, serving
from tests.federation.participant.plans import BASIS, PUBLIC, make_plan
from tests.nodes import Node, open_node

POLICY = ConsentPolicy(
    largest_epsilon=20.0,
    largest_delta=1e-3,
    smallest_cohort=3,
    smallest_min_survivors=2,
    lifetime_epsilon=40.0,
)
SECONDS = 240
SUBJECTS = {
    "north": ("oak", "ash", "elm", "yew", "fir", "larch"),
    "south": ("cod", "eel", "pike", "trout", "perch", "carp"),
    "west": ("gull", "tern", "swan", "rook", "lark", "wren"),
}


@dataclass
class LearningSite:
    """A served coordinator, its plan, and participants that speak the protocol only."""

    site: Site
    plan: FederationPlan

    @property
    def authority(self) -> Authority:
        return self.site.authority

    @property
    def url(self) -> str:
        return self.site.url

    def token(self) -> str:
        """A fresh enrolment token, as the admin would hand it over."""
        return enrolment.issue_token(self.authority, self.plan.population).reveal()

    def approve_all(self) -> None:
        with self.authority.database.read() as session:
            pending = ParticipantRow.state == ParticipantState.PENDING
            ids = session.scalars(select(ParticipantRow.id).where(pending)).all()
        for number in ids:
            enrolment.approve(self.authority, number)

    def start(self) -> None:
        federations.start(self.authority, self.plan.federation)


@contextmanager
def learning_site(
    home: Path,
    base_model: str,
    *,
    others: int = 0,
    drive: bool = True,
    basis: bytes = BASIS,
    **given: Any,
) -> Iterator[LearningSite]:
    """A coordinator with a federation that is not started yet; `given` changes its plan."""
    with ExitStack() as stack:
        opened = stack.enter_context(coordinator(home))
        plan = make_plan(base_model, coordinator=opened.identity, **given)
        populations.create(opened.authority, plan.population, limit_for(plan, epsilon=30.0))
        initial = parameters_to_bytes(np.zeros(plan.adapter.dimension, np.float32))
        federations.create(opened.authority, plan, [basis, PUBLIC], initial)
        url = stack.enter_context(serving(opened, drive=drive))
        members = []
        for number in range(others):
            http = stack.enter_context(httpx.Client(base_url=url, timeout=60))
            members.append(Participant(http, opened.identity, noisy_vector))
            admit(opened.authority, members[-1], f"other {number}")
        yield LearningSite(Site(opened, url, members), plan)


@dataclass
class Member:
    """A node with documents, which takes part as `alcove node serve` does."""

    node: Node
    service: FederationService
    assistant_id: int

    def membership(self) -> Membership:
        (found,) = self.service.memberships()
        return found


@contextmanager
def member(
    root: Path, embedder: Embedder, engine: Engine | None = None, **settings: Any
) -> Iterator[Member]:
    """A node without documents whose policy accepts the plans of `make_plan`."""
    with open_node(root, embedder) as node:
        service = FederationService(node.database, root)
        service.consent.set_policy(POLICY)
        chosen = NodeSettings(home=root, **settings)
        service.start(chosen, embedder, node.library, engine, participate=True)
        try:
            yield Member(node, service, node.assistant())
        finally:
            service.close()


def until(condition: Callable[[], object], what: str) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.05)


def joined(one: Member, site: LearningSite, name: str = "node") -> str:
    """The id of a membership that was approved and is driven."""
    made = one.service.join(site.url, site.token(), name).id
    site.approve_all()
    until(
        lambda: one.service.membership(made).state is MembershipState.ACTIVE, "it has been approved"
    )
    return made


def senders(site: LearningSite, stage: Stage) -> set[str]:
    """Names of those whose message of a stage is stored."""
    query = (
        select(ParticipantRow.name)
        .join(Message, Message.participant_id == ParticipantRow.id)
        .where(Message.stage == stage.value)
    )
    with site.authority.database.read() as session:
        return set(session.scalars(query))


def fill(node: Node, assistant_id: int, words: tuple[str, ...]) -> None:
    """A short document for each word, with labelled questions."""
    files = {f"{w}.md": f"# The {w}\n\nWhere the {w} lives, and how.\n".encode() for w in words}
    ids = node.ingest(assistant_id, files)
    asked = [
        NewQuestion(f"{question} the {word}?", (document_id,), None, None)
        for word, document_id in zip(words, ids, strict=True)
        for question in ("what is", "where lives", "how old gets")
    ]
    with node.database.write() as session:
        questions.add(session, assistant_id, asked)


def vectors(node: Node) -> list[bytes]:
    with node.database.read() as session:
        return list(session.scalars(select(Chunk.vector).order_by(Chunk.id)))


def contributions(one: Member) -> list[Contribution]:
    with one.node.database.read() as session:
        return list(session.scalars(select(Contribution)))


def versions(one: Member) -> list[SharedVersion]:
    with one.node.database.read() as session:
        return list(session.scalars(select(SharedVersion)))


def plans(one: Member) -> list[KnownPlan]:
    with one.node.database.read() as session:
        return list(session.scalars(select(KnownPlan)))


def released(site: LearningSite) -> bool:
    with site.authority.database.read() as session:
        rounds = session.scalars(select(Round)).all()
    failed = [round_.reason for round_ in rounds if round_.stage == Stage.FAILED]
    assert not failed, failed
    return any(round_.stage == Stage.RELEASED for round_ in rounds)


def stage_of(site: LearningSite) -> Stage:
    """Of the newest round."""
    return Stage(site.site.round().stage)
