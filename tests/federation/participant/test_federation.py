"""Three nodes and a coordinator over HTTP: a round from enlisting to a served version."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from federation.adapter_spec import parameters_from_bytes, parameters_to_bytes
from federation.coordinator import federations
from federation.coordinator import versions as released_versions
from federation.invitation import Stage
from federation.participant import worker
from federation.participant.adoption import Adoption
from federation.participant.base_models import BaseModels
from federation.participant.coordinator_client import CoordinatorClient
from federation.participant.identity import FederationHome
from federation.participant.plan_files import PlanFiles
from federation.participant.rounds import LeftError, Rounds
from federation.participant.version_trials import VersionTrials
from federation.participant.versions import VersionSource
from federation.plan import FederationPlan, Optimiser, OptimiserName, Timing
from federation.signed import Signed
from federation.versions import SignedVersion, Version
from privacy.budget import Step
from privacy.receipts import Receipt
from retrieval import questions
from retrieval.embedding import Embedder
from retrieval.examples import ExampleSource
from retrieval.questions import NewQuestion
from storage.coordinator_tables import Round
from storage.home import write_private
from storage.membership_tables import (
    Contribution,
    KnownPlan,
    Membership,
    MembershipState,
    Outcome,
    SharedVersion,
    VersionState,
)
from storage.node_tables import Chunk, Document
from storage.settings import NodeSettings
from tests.federation.participant.plans import BASIS, SIZE, make_plan
from tests.federation.participant.sites import (
    LearningSite,
    Member,
    joined,
    learning_site,
    member,
    until,
)
from tests.federation.participant.test_crashes import answering
from tests.nodes import Node, open_node

SUBJECTS = {
    "north": ("oak", "ash", "elm", "yew", "fir", "larch"),
    "south": ("cod", "eel", "pike", "trout", "perch", "carp"),
    "west": ("gull", "tern", "swan", "rook", "lark", "wren"),
}
# Nobody waits for a phase to run out: each ends when all have answered.
TIMING = Timing(90.0, 90.0, 8.0, 0.0)


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


@pytest.mark.long
@pytest.mark.timeout(400)
def test_three_nodes_train_a_version_and_each_decides_to_serve_it(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By another secret there may be nothing held back to try versions on.
    monkeypatch.setattr(FederationHome, "secret", lambda _self: b"s" * 32)
    with ExitStack() as stack:
        site = stack.enter_context(
            learning_site(
                tmp_path / "coordinator", embedder.identity, timing=TIMING,
                privacy={"rounds": 1, "max_participations": 1},
                # So small a step moves scores, and no question to another rank.
                optimiser=Optimiser(OptimiserName.FEDAVG, 1e-4),
            )
        )  # fmt: skip
        members = [stack.enter_context(member(tmp_path / name, embedder)) for name in SUBJECTS]
        for one, (name, words) in zip(members, SUBJECTS.items(), strict=True):
            fill(one.node, one.assistant_id, words)
            one.service.join(site.url, site.token(), name)
            assert one.membership().state is MembershipState.PENDING
        site.approve_all()
        for one in members:
            until(lambda one=one: plans(one), "every node has read the plan")
            assert [row.refusals for row in plans(one)] == [""]
            assert one.membership().state is MembershipState.ACTIVE
        before = [vectors(one.node) for one in members]
        scores = members[0].node.library.searcher.candidates(members[0].assistant_id, "oak?").dense

        site.start()
        until(lambda: released(site), "the round is released")
        federations.promote(site.authority, site.plan.federation, 1)
        for one in members:
            until(
                lambda one=one: any(v.examples for v in versions(one)),
                "every node has tried the version",
            )

        for one, old in zip(members, before, strict=True):
            (entered,) = contributions(one)
            assert entered.outcome is Outcome.FINISHED
            assert entered.sent_bytes is not None and entered.sent_bytes >= 4 * SIZE
            assert entered.receipt is not None
            receipt = Receipt.from_bytes(entered.receipt)
            assert receipt.participant == one.membership().identity
            assert receipt.signed.coordinator == site.plan.coordinator
            odometer = one.service.consent.open_odometer().odometer
            assert odometer.rounds(site.plan.hash, Step.CHARGED) == (entered.round_id,)
            (version,) = versions(one)
            assert (version.number, version.state) == (1, VersionState.SERVED)
            assert version.examples > 0 and version.before == version.after
            assert vectors(one.node) == old
        changed = members[0].node.library.searcher.candidates(members[0].assistant_id, "oak?").dense
        assert 0 < np.abs(changed - scores).max() < 0.05
        with site.authority.database.read() as session:
            newest = released_versions.newest(session, site.plan.federation, whole=True)
        made = parameters_from_bytes(newest.parameters, site.plan.adapter)
        shared = members[0].service.shared_map
        # That training moves it is shown in test_modes: here noise would be enough.
        assert shared is not None and np.array_equal(shared.query_map.weights.ravel(), made)


class TestConsent:
    def test_a_weak_plan_is_met_with_its_reasons_and_no_round_is_entered(
        self, tmp_path: Path, embedder: Embedder
    ) -> None:
        with (
            learning_site(tmp_path / "coordinator", "another model", timing=TIMING) as site,
            member(tmp_path / "node", embedder) as one,
        ):
            one.service.consent.set_policy(replace(one.service.consent.policy, smallest_cohort=4))
            one.service.join(site.url, site.token(), "careful")
            site.approve_all()
            site.start()
            until(lambda: plans(one) and plans(one)[0].refusals, "the plan is refused")
            (row,) = plans(one)
            cohort, model = row.refusals.splitlines()
            assert cohort == "cohort: the plan says 3, the policy wants at least 4"
            assert model.startswith("base_model: the plan says another model, this node runs all-")
            assert contributions(one) == []

    def test_a_stricter_policy_holds_for_the_next_round_and_the_next_debit(
        self, tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever the node found acceptable when it last looked around."""
        refused, enlist = [], Rounds.enlist

        def noted(self: Rounds, *given: Any) -> None:
            try:
                enlist(self, *given)
            except LeftError as error:
                refused.append(str(error))
                raise

        monkeypatch.setattr(Rounds, "enlist", noted)
        with (
            learning_site(
                tmp_path / "coordinator", embedder.identity, others=2,
                # Vectors leave when the test says so.
                timing=Timing(600.0, 600.0, 600.0, 600.0),
            ) as site,
            member(tmp_path / "node", embedder) as one,
            answering(site),
        ):  # fmt: skip
            made = joined(one, site)
            one.service.pause(made, True)
            site.start()
            (driven,) = one.service._workers.values()
            until(
                lambda: any(f.trainer for f in driven._federations.values()),
                "but for the pause it would enlist",
            )
            monkeypatch.setattr(worker, "REFRESH_SECONDS", 1e9)
            accepting = one.service.consent.policy
            stricter = replace(accepting, smallest_cohort=4)
            why = "cohort: the plan says 3, the policy wants at least 4"

            one.service.consent.set_policy(stricter)
            one.service.pause(made, False)
            until(lambda: why in refused, "it was asked to enlist")
            assert contributions(one) == []

            one.service.consent.set_policy(accepting)
            until(lambda: stage_of(site) is Stage.MASKED, "vectors are waited for")
            one.service.consent.set_policy(stricter)
            driven._rounds._due = dict.fromkeys(driven._rounds._due, time.monotonic())
            until(lambda: contributions(one)[0].outcome is Outcome.LEFT, "it has left the round")
            assert contributions(one)[0].reason == why
            odometer = one.service.consent.open_odometer().odometer
            assert odometer.rounds(site.plan.hash, Step.CHARGED) == ()


@contextmanager
def trying(folder: Path, embedder: Embedder) -> Iterator[tuple[Node, Adoption, FederationPlan]]:
    """A node with documents that knows a plan and has served no version of it."""
    plan = make_plan(embedder.identity)
    with open_node(folder, embedder) as node:
        fill(node, node.assistant(), SUBJECTS["north"])
        home = FederationHome(folder / "federation")
        home.create()
        write_private(home.files / plan.adapter.basis_hash, BASIS)
        with node.database.write() as session:
            session.add(
                Membership(
                    id="m", url="https://c", coordinator="c0" * 32, name="n", identity="1d" * 32
                )
            )
            session.flush()
            stored = Signed(plan, "c0" * 32, "").to_bytes()
            session.add(
                KnownPlan(
                    plan_hash=plan.hash, membership_id="m", federation="questions", plan=stored
                )
            )
        source = ExampleSource(node.database, b"s" * 32)
        models = BaseModels(NodeSettings(home=folder), embedder)
        yield (
            node,
            Adoption(node.database, home, source, models, embedder, node.library, None),
            plan,
        )


def version(plan: FederationPlan, number: int) -> SignedVersion:
    record = Version(
        "questions", plan.hash, number, plan.adapter.hash, plan.adapter.base_model, "ab" * 32,
        "round", "cd" * 32,
    )  # fmt: skip
    return Signed(record, "c0" * 32, "")


def test_a_harmful_version_is_not_served_unless_the_owner_pins_it(
    tmp_path: Path, embedder: Embedder
) -> None:
    """A huge random map sends every question to one place, so that ranks are chance."""
    direction = np.random.default_rng(3).standard_normal(SIZE)
    harmful = parameters_to_bytes((1e4 * direction).astype(np.float32))
    harmless = parameters_to_bytes((1e-3 * direction).astype(np.float32))
    with trying(tmp_path / "home", embedder) as (node, adoption, plan):

        def served() -> dict[int, VersionState]:
            with node.database.read() as session:
                return {row.number: row.state for row in session.scalars(select(SharedVersion))}

        def scores() -> list[float]:
            found = node.library.searcher.candidates(node.assistant(), "where lives the oak?")
            return sorted(found.dense.tolist())

        plain = scores()
        for number, parameters in ((1, harmless), (2, harmful), (3, harmless)):
            adoption.keep(plan, version(plan, number), parameters)
        assert adoption.consider(plan, 1) is VersionState.SERVED
        close = scores()
        assert 1e-5 < np.abs(np.subtract(close, plain)).max() < 1e-2
        assert adoption.is_due(plan, 2) and adoption.is_due(plan, 3)
        assert adoption.consider(plan, 2) is VersionState.HARMFUL
        assert served() == {
            1: VersionState.SERVED, 2: VersionState.HARMFUL, 3: VersionState.RETIRED
        }  # fmt: skip
        assert np.allclose(scores(), close, atol=1e-6)
        assert not adoption.is_due(plan, 2)

        adoption.pin(plan.hash, 2)
        assert served()[1] is VersionState.RETIRED and served()[2] is VersionState.SERVED
        assert not np.allclose(scores(), plain, atol=5e-2)
        assert not adoption.is_due(plan, 3)

        adoption.refuse(plan.hash, 2)
        assert served()[2] is VersionState.REFUSED
        assert np.allclose(scores(), plain, atol=1e-6)
        assert adoption.is_due(plan, 1) and not adoption.is_due(plan, 2)


def test_a_version_that_is_worse_than_the_served_one_does_not_replace_it(
    tmp_path: Path, embedder: Embedder
) -> None:
    """Though it is better than none: most questions are labelled so that none is bad."""
    rng = np.random.default_rng(4)
    with trying(tmp_path / "home", embedder) as (node, adoption, plan):
        with node.database.read() as session:
            ids = list(session.scalars(select(Document.id).order_by(Document.name)))
        words = sorted(SUBJECTS["north"])
        asked = [
            NewQuestion(f"{number}: what of the {word}?", (ids[place - 1],), None, None)
            for number in range(20)
            for place, word in enumerate(words)
        ]
        with node.database.write() as session:
            questions.add(session, node.assistant(), asked)
        held_back = ExampleSource(node.database, b"s" * 32).held_back()

        def quality(parameters: bytes) -> float:
            return adoption._quality(held_back, adoption._query_map(plan, parameters))

        directions = 1e4 * rng.standard_normal((20, SIZE))
        found = sorted(
            (parameters_to_bytes(one.astype(np.float32)) for one in directions), key=quality
        )
        none, better, best = adoption._quality(held_back, None), found[-2], found[-1]
        assert none < quality(better) < quality(best)
        for number, parameters in ((1, best), (2, better)):
            adoption.keep(plan, version(plan, number), parameters)
        assert adoption.consider(plan, 1) is VersionState.SERVED
        assert adoption.consider(plan, 2) is VersionState.HARMFUL
        with node.database.read() as session:
            one, two = session.scalars(select(SharedVersion).order_by(SharedVersion.number))
        assert (one.state, one.before, one.after) == (VersionState.SERVED, none, quality(best))
        assert (two.before, two.after) == (quality(best), quality(better))
        assert adoption.shared_map is not None and adoption.shared_map.name == f"{plan.hash}/1"


def test_a_version_that_is_rolled_back_is_withdrawn_unless_it_is_pinned(
    tmp_path: Path, embedder: Embedder
) -> None:
    direction = np.random.default_rng(3).standard_normal(SIZE)
    harmful = parameters_to_bytes((1e4 * direction).astype(np.float32))
    harmless = parameters_to_bytes((1e-3 * direction).astype(np.float32))
    with trying(tmp_path / "home", embedder) as (node, adoption, plan):
        home = FederationHome(tmp_path / "home" / "federation")
        # Never asked: all that is needed is here.
        client = CoordinatorClient("http://127.0.0.1:9", "c0" * 32, Ed25519PrivateKey.generate())
        models = BaseModels(NodeSettings(home=tmp_path / "home"), embedder)
        source = ExampleSource(node.database, b"s" * 32)
        trials = VersionTrials(adoption, source, PlanFiles(client, home, models))

        def promoted(number: int) -> tuple[list[VersionState], bool]:
            """States of both versions, and whether one is served, once the node has noticed."""
            trials.attend(plan, VersionSource(client, plan), number)
            trials._attending[plan.hash].result()
            with node.database.read() as session:
                rows = session.scalars(select(SharedVersion).order_by(SharedVersion.number))
                return [row.state for row in rows], adoption.shared_map is not None

        served, retired = VersionState.SERVED, VersionState.RETIRED
        adoption.keep(plan, version(plan, 1), harmful)
        adoption.keep(plan, version(plan, 2), harmless)
        assert promoted(1) == ([VersionState.HARMFUL, retired], False)
        assert promoted(2) == ([VersionState.HARMFUL, served], True)
        assert promoted(1) == ([VersionState.HARMFUL, retired], False)
        assert promoted(2) == ([VersionState.HARMFUL, served], True)
        assert promoted(0) == ([VersionState.HARMFUL, retired], False)
        adoption.pin(plan.hash, 2)
        assert promoted(0) == ([VersionState.HARMFUL, served], True)
        trials.close()
        client.close()
