"""Nodes that are killed, and nodes that are restored from a backup: nothing is sent or spent twice.

The other two participants of each round speak the whole protocol; the coordinator is a real one.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from federation.coordinator import federations
from federation.invitation import Stage
from federation.odometer_file import OdometerFile
from federation.participant import worker
from federation.participant.identity import FederationHome
from federation.participant.service import FederationService
from federation.plan import Timing
from privacy.budget import Step
from retrieval.embedding import Embedder
from storage.coordinator_tables import Message, Round
from storage.membership_tables import Contribution, MembershipState, Outcome
from tests.federation.participant.sites import (
    POLICY,
    LearningSite,
    Member,
    learning_site,
    member,
    until,
)
from tests.forked import ENVIRONMENT, ROOT
from tests.nodes import open_database

TIMING = Timing(90.0, 90.0, 0.5, 0.0)
POINTS = ["before debit", "after debit", "after masked"]
OTHER_POINTS = [f"after {stage}" for stage in ("enlisting", "keys", "shares", "survivors")]


@contextmanager
def answering(site: LearningSite) -> Iterator[None]:
    """The other participants answer whatever they are asked, in a thread."""
    over = threading.Event()

    def answer() -> None:
        while not over.wait(0.05):
            for participant in site.site.participants:
                with suppress(httpx.TransportError):  # on a busy machine; it is asked again
                    participant.answer_all()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def run(folder: Path, *point: str) -> subprocess.CompletedProcess[str]:
    crashing = "tests.federation.participant.crashing"
    command = [sys.executable, "-m", crashing, str(folder), *point]
    # Fresh interpreters, each with a hash seed of its own: the bytes must not depend on it.
    return subprocess.run(
        command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def masked(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The hashes of the masked messages that a run knew."""
    lines = (line.split() for line in done.stdout.splitlines())
    return [words[1] for words in lines if words[0] == "masked"]


@contextmanager
def one_round(tmp_path: Path, folder: Path) -> Iterator[LearningSite]:
    """A federation of one round that the node in `folder` has joined."""
    with learning_site(
        tmp_path / "coordinator", "any", others=2, timing=TIMING,
        privacy={"rounds": 1, "max_participations": 1},
    ) as site:  # fmt: skip
        with open_database(folder / "node.db") as database:
            service = FederationService(database, folder)
            service.consent.set_policy(POLICY)
            service.join(site.url, site.token(), "killed")
            service.close()
        site.approve_all()
        site.start()
        yield site


def rounds_of(site: LearningSite) -> list[Round]:
    with site.authority.database.read() as session:
        return list(session.scalars(select(Round).order_by(Round.number)))


def debits(folder: Path, plan_hash: str) -> tuple[str, ...]:
    home = FederationHome(folder / "federation")
    with OdometerFile.open(home.odometer, home.identities, POLICY.limit) as file:
        return file.odometer.rounds(plan_hash, Step.CHARGED)


@pytest.mark.parametrize(
    "point", [*POINTS, *(pytest.param(one, marks=pytest.mark.faults) for one in OTHER_POINTS)]
)
def test_a_killed_node_sends_the_same_bytes_and_debits_once(tmp_path: Path, point: str) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    with one_round(tmp_path, folder) as site:
        with answering(site):
            killed = run(folder, point)
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            before = debits(folder, site.plan.hash)
            done = run(folder)
            assert done.returncode == 0, done.stderr
            until(lambda: Stage(rounds_of(site)[0].stage).is_over, "the round is over")
        (round_,) = rounds_of(site)
        assert (round_.stage, round_.survivors) == (Stage.RELEASED, 3), round_.reason
        with open_database(folder / "node.db") as database, database.read() as session:
            entered = session.scalars(select(Contribution)).one()
        with site.authority.database.read() as session:
            taken = session.scalars(
                select(Message.payload_hash).where(
                    Message.stage == Stage.MASKED, Message.round_id == round_.id
                )
            ).all()
    assert debits(folder, site.plan.hash) == (round_.id,)
    assert before == (() if point in ("before debit", *OTHER_POINTS[:3]) else (round_.id,))
    known = masked(killed) + masked(done)
    assert len(set(known)) == 1
    assert known[0] in taken
    assert entered.outcome is Outcome.FINISHED and entered.sent_hash == known[0]
    assert list(FederationHome(folder / "federation").rounds.iterdir()) == []


def test_a_node_restored_into_a_running_round_makes_no_second_payload(tmp_path: Path) -> None:
    """Its state from before the masked message is valid in itself; only evidence tells."""
    folder, backup = tmp_path / "node", tmp_path / "backup"
    folder.mkdir()
    with one_round(tmp_path, folder) as site:
        with answering(site):
            assert run(folder, "after shares").returncode == -signal.SIGKILL
            shutil.copytree(folder, backup)
            sent = run(folder, "after masked")
            assert sent.returncode == -signal.SIGKILL
        shutil.rmtree(folder)
        shutil.copytree(backup, folder)
        done = run(folder)
        assert done.returncode == 0, done.stderr
        (round_,) = rounds_of(site)
        with open_database(folder / "node.db") as database, database.read() as session:
            entered = session.scalars(select(Contribution)).one()
    assert len(masked(sent)) == 1 and masked(done) == []
    assert (entered.outcome, entered.reason) == (
        Outcome.LEFT,
        "the node was restored from a backup",
    )
    assert debits(folder, site.plan.hash) == (round_.id,)


def outcomes(one: Member) -> list[Outcome]:
    with one.node.database.read() as session:
        return list(session.scalars(select(Contribution.outcome).order_by(Contribution.number)))


@contextmanager
def node_in_the_past(
    tmp_path: Path, embedder: Embedder, site: LearningSite
) -> Iterator[tuple[Path, str]]:
    """A node's folder from before its first round, which has happened since; and that round."""
    root, backup = tmp_path / "node", tmp_path / "backup"
    with member(root, embedder) as one:
        one.service.join(site.url, site.token(), "restored")
        site.approve_all()
        until(lambda: one.membership().state is MembershipState.ACTIVE, "the node is approved")
    shutil.copytree(root, backup)
    with member(root, embedder) as one, answering(site):
        site.start()
        until(lambda: outcomes(one) == [Outcome.FINISHED], "the first round is over")
        federations.pause(site.authority, site.plan.federation, "for the test")
        until(lambda: Stage(rounds_of(site)[-1].stage).is_over, "nothing is under way")
    shutil.rmtree(root)
    shutil.copytree(backup, root)
    yield root, rounds_of(site)[0].id


def test_a_restored_node_recovers_its_debits_before_it_goes_on(
    tmp_path: Path, embedder: Embedder
) -> None:
    with (
        learning_site(
            tmp_path / "coordinator", embedder.identity, others=2,
            timing=Timing(90.0, 90.0, 0.5, 1.0), privacy={"rounds": 3, "max_participations": 3},
        ) as site,
        node_in_the_past(tmp_path, embedder, site) as (root, first),
    ):  # fmt: skip
        assert debits(root, site.plan.hash) == ()
        with member(root, embedder) as one:
            odometer = one.service.consent.open_odometer().odometer
            until(lambda: odometer.rounds(site.plan.hash, Step.CHARGED), "the debit is recovered")
            assert first in odometer.rounds(site.plan.hash, Step.CHARGED)
            until(lambda: one.service.problem_of(one.membership().id) is None, "it may go on")


def test_a_restored_node_enters_nothing_while_a_coordinator_is_silent(
    tmp_path: Path, embedder: Embedder
) -> None:
    """Its evidence may be with the one that does not answer, so the other one gets nothing."""
    with learning_site(tmp_path / "lost", embedder.identity, timing=TIMING) as lost:
        root = tmp_path / "node"
        with member(root, embedder) as one:
            one.service.join(lost.url, lost.token(), "restored")
            lost.approve_all()
            until(lambda: one.membership().state is MembershipState.ACTIVE, "it is approved")
    with (
        learning_site(tmp_path / "other", embedder.identity, others=2, timing=TIMING) as site,
        member(root, embedder) as one,
        answering(site),
    ):
        new = one.service.join(site.url, site.token(), "elsewhere")
        silent = next(m.id for m in one.service.memberships() if m.id != new.id)
        site.approve_all()
        site.start()
        until(
            lambda: one.service.membership(new.id).state is MembershipState.ACTIVE,
            "the other coordinator has answered",
        )
        until(
            lambda: "does not answer" in (one.service.problem_of(silent) or ""),
            "the silence is noticed",
        )
        driven = one.service._workers[new.id]
        until(lambda: any(f.trainer for f in driven._federations.values()), "it would take part")
        driven._pause = worker.PAUSE_SECONDS
        # It is longer after each time that there is something to send and nothing is sent.
        until(lambda: driven._pause > 3 * worker.PAUSE_SECONDS, "it was asked, and sent nothing")
        assert outcomes(one) == []
        one.service.leave(silent)
        until(lambda: outcomes(one), "the owner has decided to go on without it")
