"""Three nodes and a coordinator over HTTP: a round from enlisting to a served version."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.adapter_spec import parameters_from_bytes
from federation.coordinator import federations, outbox
from federation.coordinator import versions as released_versions
from federation.invitation import Stage
from federation.participant import worker
from federation.participant.identity import FederationHome
from federation.participant.rounds import LeftError, Rounds
from federation.plan import Optimiser, OptimiserName, Timing
from privacy.budget import Step
from privacy.receipts import Receipt
from retrieval.embedding import Embedder
from storage.membership_tables import (
    MembershipState,
    Outcome,
    VersionState,
)
from tests.federation.participant.plans import SIZE
from tests.federation.participant.sites import (
    SUBJECTS,
    contributions,
    fill,
    joined,
    learning_site,
    member,
    plans,
    released,
    stage_of,
    until,
    vectors,
    versions,
)
from tests.federation.participant.test_crashes import answering

# Nobody waits for a phase to run out: each ends when all have answered.
TIMING = Timing(90.0, 90.0, 8.0, 0.0)


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
        # It looks around when the federation starts, and never again.
        monkeypatch.setattr(worker, "REFRESH_SECONDS", 1e9)
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

            def has_looked() -> bool:
                with site.authority.database.look() as connection:
                    listing = outbox.listing_markers(connection)[site.plan.population]
                return driven._looked_at == listing

            until(
                lambda: has_looked() and any(f.trainer for f in driven._federations.values()),
                "but for the pause it would enlist",
            )
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
