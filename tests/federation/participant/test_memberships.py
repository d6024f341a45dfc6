"""Memberships that a node has one after another, or twice at once, are of one node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from benchmarks.participants import Participant
from federation.coordinator import federations
from federation.enrolment import EnrolmentToken
from federation.invitation import Stage
from federation.participant import peers
from federation.participant.coordinator_client import RefusedError, UnreachableError
from federation.plan import Timing
from federation.secagg import Client
from federation.secagg.config import RoundConfig
from privacy.budget import Step
from privacy.ledger_records import ThreatModel
from retrieval.embedding import Embedder
from storage.membership_tables import Contribution, Membership, MembershipState, Outcome
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


NOWHERE = "http://127.0.0.1:9"


def test_a_join_that_nobody_answers_stops_no_other_federation(
    tmp_path: Path, embedder: Embedder
) -> None:
    with (
        learning_site(
            tmp_path / "coordinator",
            embedder.identity,
            others=2,
            timing=Timing(600.0, 600.0, 0.0, 0.0),
        ) as site,
        member(tmp_path / "node", embedder) as one,
    ):
        joined(one, site)
        elsewhere = EnrolmentToken.fresh("c0" * 32).reveal()
        with pytest.raises(UnreachableError):
            one.service.join(NOWHERE, elsewhere, "node")
        (silent,) = [m for m in one.service.memberships() if m.url == NOWHERE]
        until(lambda: "does not answer" in (one.service.problem_of(silent.id) or ""), "it is told")
        site.start()
        until(lambda: senders(site, Stage.ENLISTING), "it takes part elsewhere")


def test_joining_again_in_vain_changes_nothing(tmp_path: Path, embedder: Embedder) -> None:
    with (
        learning_site(tmp_path / "coordinator", embedder.identity) as site,
        member(tmp_path / "node", embedder) as one,
    ):
        token = site.token()
        first = one.service.join(site.url, token, "node")
        with pytest.raises(RefusedError):
            one.service.join(site.url, site.token(), "another name")
        with pytest.raises(UnreachableError):
            one.service.join(NOWHERE, token, "another name")
        again = one.membership()
        assert (again.id, again.url, again.name) == (first.id, site.url, "node")
        site.approve_all()
        until(lambda: one.membership().state is MembershipState.ACTIVE, "it has been approved")


@pytest.mark.long
def test_an_active_round_is_left_until_every_peer_is_confirmed(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Client.start

    def confirming(
        config: RoundConfig, identity: Ed25519PrivateKey, persist: Any, *confirmed: frozenset[int]
    ) -> Client:
        """For the others, whose owners have confirmed everybody."""
        return start(config, identity, persist, *(confirmed or [frozenset(range(3))]))

    monkeypatch.setattr(Client, "start", confirming)
    with (
        learning_site(
            tmp_path / "coordinator", embedder.identity, others=2, privacy=ONE_ROUND,
            threat_model=ThreatModel.ACTIVE, timing=Timing(600.0, 600.0, 0.5, 0.0),
        ) as site,
        member(tmp_path / "node", embedder) as one,
        answering(site),
    ):  # fmt: skip
        made = joined(one, site)
        until(lambda: one.service.membership(made).roster, "it has read the roster")

        def confirm(other: Participant) -> None:
            with one.node.database.write() as session:
                membership = session.get_one(Membership, made)
                peers.confirm(session, membership, other.identity)

        confirm(site.site.participants[0])
        site.start()
        until(lambda: Outcome.LEFT in outcomes(one), "it has left the round")
        with one.node.database.read() as session:
            reasons = session.scalars(select(Contribution.reason)).all()
        assert reasons[0] is not None and reasons[0].startswith("UNCONFIRMED_PEERS: ")
        confirm(site.site.participants[1])
        until(lambda: Outcome.FINISHED in outcomes(one), "it takes part")
