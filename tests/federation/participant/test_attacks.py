"""What a coordinator could try on a node: to learn of its data, or to get more than was debited."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import select

from federation.adapter_spec import parameters_hash, parameters_to_bytes
from federation.coordinator import enrolment, federations
from federation.coordinator import versions as released
from federation.invitation import Stage
from federation.optimiser import OptimiserState
from federation.participant import worker
from federation.participant.coordinator_client import CoordinatorClient
from federation.participant.identity import FederationHome
from federation.plan import Timing
from federation.secagg import Client
from federation.signed import Signed
from federation.versions import Version
from privacy.budget import Step
from privacy.signing import Domain
from retrieval.embedding import Embedder
from retrieval.examples import ExampleSource, Subject
from storage.coordinator_tables import Federation, Message, Round
from storage.coordinator_tables import Participant as ParticipantRow
from storage.membership_tables import MembershipState, Outcome, SharedVersion, VersionState
from storage.niced_process import NICENESS
from tests.federation.participant.plans import SIZE
from tests.federation.participant.sites import (
    SUBJECTS,
    LearningSite,
    contributions,
    fill,
    joined,
    learning_site,
    member,
    senders,
    until,
)
from tests.federation.participant.test_crashes import answering, outcomes
from tests.federation.participant.test_modes import training_processes

TIMING = Timing(90.0, 90.0, 0.5, 0.0)
ONE_ROUND = {"rounds": 1, "max_participations": 1}


def publish(site: LearningSite, number: int, weights: NDArray[np.float32]) -> None:
    """A version of the federation as a round would have released it."""
    parameters, plan = parameters_to_bytes(weights), site.plan
    record = Version(
        plan.federation, plan.hash, number, plan.adapter.hash, plan.adapter.base_model,
        parameters_hash(parameters), f"{number:032x}", plan.initial_hash,
    )  # fmt: skip
    with site.authority.database.write() as session:
        released.add(session, site.authority, record, parameters, OptimiserState.zero(SIZE))


def test_what_a_node_fetches_does_not_tell_what_it_serves(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rolled back to a version that was served before, it would fetch that one only if it had been
    replaced: one bit about its private questions."""
    # Nothing but the coordinator's word that something changed has it look again.
    monkeypatch.setattr(worker, "REFRESH_SECONDS", 1e9)
    # By another secret there may be nothing held back to try versions on.
    monkeypatch.setattr(FederationHome, "secret", lambda _self: b"s" * 32)
    fetched, parameters = [], CoordinatorClient.parameters

    def noted(self: CoordinatorClient, version: Version) -> bytes:
        fetched.append(version.number)
        return parameters(self, version)

    monkeypatch.setattr(CoordinatorClient, "parameters", noted)
    direction = np.random.default_rng(3).standard_normal(SIZE).astype(np.float32)
    with (
        learning_site(tmp_path / "coordinator", embedder.identity) as site,
        member(tmp_path / "node", embedder) as one,
    ):
        fill(one.node, one.assistant_id, SUBJECTS["north"])
        joined(one, site)
        for number, factor in ((1, 1e-4), (2, 1e-4), (3, 1e4)):
            publish(site, number, np.float32(factor) * direction)

        def state(number: int) -> VersionState | None:
            with one.node.database.read() as session:
                row = session.get(SharedVersion, (site.plan.hash, number))
            return None if row is None else row.state

        expected = (
            (1, VersionState.SERVED), (2, VersionState.SERVED), (1, VersionState.SERVED),
            (3, VersionState.HARMFUL), (1, VersionState.SERVED),
        )  # fmt: skip
        for number, becomes in expected:
            federations.promote(site.authority, site.plan.federation, number)
            until(lambda n=number, b=becomes: state(n) is b, f"{number} is {becomes}")
        one.service.adoption.pin(site.plan.hash, 1)
        publish(site, 4, direction)
        federations.promote(site.authority, site.plan.federation, 4)
        until(lambda: state(4), "the owner's choice keeps nothing from being fetched")
    assert fetched == [1, 2, 3, 4]


def test_a_listing_that_changes_all_the_time_is_not_looked_at_all_the_time(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change has all nodes look, and each look reads a roster of all nodes."""
    monkeypatch.setattr(worker, "SETTLE_SECONDS", 0.5)
    looks, roster = [], CoordinatorClient.roster

    def noted(self: CoordinatorClient) -> Any:
        looks.append(time.monotonic())
        return roster(self)

    monkeypatch.setattr(CoordinatorClient, "roster", noted)
    with (
        learning_site(tmp_path / "coordinator", embedder.identity, others=1, drive=False) as site,
        member(tmp_path / "node", embedder) as one,
    ):
        joined(one, site)
        site.start()
        until(training_processes, "it has looked at what was started")
        looks.clear()
        while len(looks) < 5:
            # Long enough for each to be seen.
            federations.pause(site.authority, site.plan.federation, "for a test")
            time.sleep(0.3)
            federations.resume(site.authority, site.plan.federation)
            time.sleep(0.3)
    # Four times what two members ask for; a look begins a moment after the time that counts.
    assert looks[4] - looks[0] > 4 * 2 * 0.5 - 0.5


def test_a_replaced_plan_leaves_no_training_process_behind(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An honest coordinator gives a changed plan another name; a hundred would be a hundred models
    in memory."""
    # Nothing but the coordinator's word that something changed has it look again.
    monkeypatch.setattr(worker, "REFRESH_SECONDS", 1e9)
    with (
        learning_site(tmp_path / "coordinator", embedder.identity, drive=False) as site,
        member(tmp_path / "node", embedder) as one,
    ):
        joined(one, site)
        site.start()
        until(training_processes, "the plan is trained for")
        (old,) = training_processes()
        changed = replace(site.plan, timing=Timing(3.0, 5.0, 3.0, 0.0))
        with site.authority.database.write() as session:
            row = session.get_one(Federation, site.plan.federation)
            row.plan = Signed.issue(changed, Domain.PLAN, site.authority.key).to_bytes()
            row.plan_hash = changed.hash
        until(lambda: set(training_processes()) - {old}, "the other plan is trained for")
        until(lambda: old not in training_processes(), "the old process has ended")
        assert len(training_processes()) == 1


@pytest.mark.long
def test_slow_or_unreadable_examples_change_no_message(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a node enlists, and whether, must not follow from how much it has to read."""
    may_end, begun = threading.Event(), threading.Event()

    def subjects(_self: ExampleSource) -> list[Subject]:
        begun.set()
        may_end.wait()
        raise OSError("the file is damaged")

    monkeypatch.setattr(ExampleSource, "subjects", subjects)
    with (
        learning_site(
            tmp_path / "coordinator", embedder.identity, others=2, timing=TIMING, privacy=ONE_ROUND
        ) as site,
        member(tmp_path / "node", embedder) as one,
        answering(site),
    ):
        joined(one, site)
        site.start()
        try:
            until(lambda: "node" in senders(site, Stage.KEYS), "it goes on while it reads")
            assert begun.is_set()
        finally:
            may_end.set()
        until(lambda: outcomes(one) == [Outcome.FINISHED], "it has taken part without rows")


@pytest.mark.long
def test_vectors_leave_at_the_plans_time_and_not_when_training_is_done(
    tmp_path: Path, embedder: Embedder
) -> None:
    """A node whose training never ends and one that has nothing to train on."""
    training_seconds = 5.0
    with (
        learning_site(
            tmp_path / "coordinator", embedder.identity, others=1, privacy=ONE_ROUND,
            timing=Timing(600.0, 600.0, training_seconds, 0.0),
        ) as site,
        member(tmp_path / "full", embedder) as full,
        member(tmp_path / "empty", embedder) as empty,
        answering(site),
    ):  # fmt: skip
        fill(full.node, full.assistant_id, SUBJECTS["north"])
        for one, name in ((full, "full"), (empty, "empty")):
            joined(one, site, name)
        site.start()
        until(lambda: len(training_processes()) == 2, "both have started to load their models")
        until(lambda: all(p.nice() == NICENESS for p in training_processes()), "they give way")
        for process in training_processes():
            process.suspend()
        for one in (full, empty):
            until(lambda one=one: outcomes(one) == [Outcome.FINISHED], "it has taken part")
        (driven,) = full.service._workers.values()
        (federation,) = driven._federations.values()
        assert federation.trainer is not None and federation.trainer.is_busy
        for one in (full, empty):
            (entered,) = contributions(one)
            assert entered.sent_at is not None
            # Noted in whole seconds.
            assert entered.sent_at + 1 >= entered.seen_at + training_seconds


def test_a_debit_that_was_made_for_another_payload_lets_none_leave(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the same round had been debited in the moment before the vector is masked."""
    mask = Client.mask
    with (
        learning_site(
            tmp_path / "coordinator", embedder.identity, others=2, timing=TIMING, privacy=ONE_ROUND
        ) as site,
        member(tmp_path / "node", embedder) as one,
        answering(site),
    ):
        odometer = one.service.consent.open_odometer()

        def overtaken(self: Client, *arguments: Any) -> bytes:
            if threading.current_thread().name == "federation":
                with site.authority.database.read() as session:
                    odometer.debit(site.plan.run, session.scalars(select(Round.id)).one())
            return mask(self, *arguments)

        monkeypatch.setattr(Client, "mask", overtaken)
        joined(one, site)
        site.start()
        until(lambda: outcomes(one) == [Outcome.LEFT], "the node has left the round")
        assert len(odometer.odometer.rounds(site.plan.hash, Step.CHARGED)) == 1
        with site.authority.database.read() as session:
            name = ParticipantRow.name == "node"
            number = session.scalars(select(ParticipantRow.id).where(name)).one()
            payloads = session.scalars(
                select(Message.payload).where(
                    Message.participant_id == number, Message.stage == Stage.MASKED.value
                )
            ).all()
        assert all(payloads), "of a vector there would be a file and no payload, unlike an Abort"


def test_a_coordinator_that_revokes_instead_of_showing_evidence_is_waited_for(
    tmp_path: Path, embedder: Embedder
) -> None:
    """A restored node would go on at another coordinator with debits that it has forgotten."""
    root = tmp_path / "node"
    with learning_site(tmp_path / "coordinator", embedder.identity) as site:
        with member(root, embedder) as one:
            joined(one, site)
        with site.authority.database.read() as session:
            number = session.scalars(select(ParticipantRow.id)).one()
        enrolment.revoke(site.authority, number)
        with member(root, embedder) as one:
            made = one.membership().id
            until(lambda: "leave" in (one.service.problem_of(made) or ""), "the owner is told")
            assert one.membership().state is MembershipState.ACTIVE
            assert not one.service._all_recovered()
            one.service.leave(made)
            assert one.service._all_recovered()
