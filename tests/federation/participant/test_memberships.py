"""Memberships that a node has one after another, or twice at once, are of one node."""

from __future__ import annotations

from pathlib import Path

import pytest

from federation.coordinator import federations
from federation.invitation import Stage
from federation.participant.coordinator_client import UnreachableError
from federation.plan import Timing
from privacy.budget import Step
from retrieval.embedding import Embedder
from storage.membership_tables import MembershipState, Outcome
from tests.federation.participant.sites import joined, learning_site, member, senders, until
from tests.federation.participant.test_crashes import answering, outcomes

ONE_ROUND = {"rounds": 1, "max_participations": 1}


@pytest.mark.long
def test_a_node_is_in_a_round_once_however_often_it_enrolled(
    tmp_path: Path, embedder: Embedder
) -> None:
    """Two places in one round would be two rows of each subject and one debit."""
    with (
        learning_site(
            tmp_path / "coordinator", embedder.identity, others=2,
            timing=Timing(6.0, 90.0, 0.5, 0.0), privacy=ONE_ROUND,
        ) as site,
        member(tmp_path / "node", embedder) as one,
        answering(site),
    ):  # fmt: skip
        first = joined(one, site, "first")
        until(lambda: one.service.membership(first).roster, "it has read the plan")
        second = one.service.join(site.url, site.token(), "second").id
        site.approve_all()
        until(
            lambda: "by another membership" in (one.service.problem_of(second) or ""),
            "it is not followed twice",
        )
        site.start()
        seen: set[str] = set()

        def is_finished() -> bool:
            seen.update(senders(site, Stage.ENLISTING))
            return outcomes(one) == [Outcome.FINISHED]

        until(is_finished, "the first membership has taken part")
    assert seen == {"other 0", "other 1", "first"}


@pytest.mark.long
def test_a_node_that_left_and_came_back_takes_part_again_on_the_same_odometer(
    tmp_path: Path, embedder: Embedder
) -> None:
    """Its receipts from before are another participant's now, and its debits are still its own."""
    with (
        learning_site(
            tmp_path / "coordinator", embedder.identity, others=2,
            timing=Timing(6.0, 90.0, 0.5, 0.0), privacy={"rounds": 2, "max_participations": 2},
        ) as site,
        member(tmp_path / "node", embedder) as one,
        answering(site),
    ):  # fmt: skip
        first = joined(one, site, "first")
        site.start()
        until(lambda: outcomes(one) == [Outcome.FINISHED], "the first round is over")
        federations.pause(site.authority, site.plan.federation, "for the test")
        one.service.leave(first)
        joined(one, site, "again")
        federations.resume(site.authority, site.plan.federation)
        until(lambda: outcomes(one)[-1:] == [Outcome.FINISHED] and len(outcomes(one)) > 1, "again")
        odometer = one.service.consent.open_odometer().odometer
        assert len(odometer.rounds(site.plan.hash, Step.CHARGED)) == 2


def test_joining_again_at_the_right_address_uses_that_address(
    tmp_path: Path, embedder: Embedder
) -> None:
    with (
        learning_site(tmp_path / "coordinator", embedder.identity) as site,
        member(tmp_path / "node", embedder) as one,
    ):
        token = site.token()
        with pytest.raises(UnreachableError):
            one.service.join("http://127.0.0.1:9", token, "node")
        one.service.join(site.url, token, "node")
        site.approve_all()
        until(lambda: one.membership().state is MembershipState.ACTIVE, "it has been approved")
        assert one.membership().url == site.url
