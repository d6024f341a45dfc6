"""Whole rounds over HTTP, on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import io
import math
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare
from sqlalchemy import inspect, select
from sqlalchemy import update as update_rows

from benchmarks.participants import Participant
from federation.adapter_spec import parameters_from_bytes
from federation.coordinator import driver, populations, provenance, rounds, versions
from federation.coordinator.leases import commit, take
from federation.invitation import Stage
from federation.optimiser import OptimiserState, step
from federation.plan import FederationPlan
from federation.signed import Signed
from federation.versions import Version
from privacy.budget import Step
from privacy.encoding import decode
from privacy.ledger_records import Result
from privacy.signing import Domain
from privacy.verification import verify
from storage.coordinator_tables import CoordinatorBase, Message, Outgoing, Round
from tests.coordinators import FEDERATION, Site, guests

FOUR_STAGES = (Stage.KEYS, Stage.SHARES, Stage.MASKED, Stage.SURVIVORS)


def charged(place: Site) -> int:
    (plan_hash,) = {p.plan(FEDERATION).hash for p in place.participants[:1]}
    return len(place.budget().rounds(plan_hash, Step.CHARGED))


def released(place: Site, plan: FederationPlan, number: int) -> NDArray[np.float32]:
    with place.authority.database.read() as session:
        row = versions.get(session, FEDERATION, number, whole=True)
    return parameters_from_bytes(row.parameters, plan.adapter)


def newest(place: Site) -> int:
    with place.authority.database.read() as session:
        return versions.newest(session, FEDERATION).number


def step_from(
    place: Site, plan: FederationPlan, number: int, round_id: str, inside: Sequence[Participant]
) -> NDArray[np.float32]:
    """The optimiser's step from version `number` by the sum of what these have encoded."""
    total = np.zeros(plan.privacy.dimension, np.uint64)
    for participant in inside:
        vector = participant.entered[round_id].vector
        assert vector is not None
        total += vector
    with place.authority.database.read() as session:
        row = versions.get(session, FEDERATION, number, whole=True)
    moments = OptimiserState.from_bytes(row.moments, plan.privacy.dimension)
    mean = decode((total % 2**32).astype(np.uint32), plan.privacy)
    return step(plan.optimiser, moments, released(place, plan, number), mean)[0]


def test_a_round_releases_the_step_of_the_exact_sum_though_one_drops_out_in_each_stage(
    place: Site,
) -> None:
    before, spent = newest(place), charged(place)
    with guests(place, 3):
        round_id = place.open_round()
        nodes = list(place.participants)
        stages = [stage for stage in Stage if not stage.is_over][1:]
        ended = place.play(drops={stage: [nodes[i]] for i, stage in enumerate(stages)})
    assert (ended.stage, ended.reason, ended.survivors) == (Stage.RELEASED, None, 4)
    plan = nodes[-1].plan(FEDERATION)
    # The first three have not sent a masked vector; the next two left when theirs was in the sum.
    expected = step_from(place, plan, before, round_id, nodes[3:])
    assert newest(place) == before + 1
    assert np.array_equal(released(place, plan, before + 1), expected)
    assert not np.array_equal(expected, released(place, plan, before))
    assert charged(place) == spent + 1
    facts = place.last_facts()
    assert (facts.result, facts.charged, facts.survivors, facts.receipts) == (
        Result.RELEASED, True, 4, 3,
    )  # fmt: skip
    assert not place.authority.home.round_vectors(round_id).exists()


def test_versions_name_what_they_were_trained_from_and_the_ledger_is_accepted(place: Site) -> None:
    place.open_round()
    assert place.play().stage == Stage.RELEASED
    node = place.participants[0]
    number = newest(place)
    version = Signed.from_bytes(
        node.get(f"federations/{FEDERATION}/versions/{number}"),
        Version,
        Domain.VERSION,
        node.coordinator,
    ).record
    assert version.round_id == place.round_id
    assert place.last_facts().model_out == version.parameters_hash
    assert place.last_facts().model_in == version.previous
    with place.authority.database.read() as session:
        file = b"".join(populations.lines(session, "clinics"))
    receipts = [r for p in place.participants for r in p.receipts]
    report = verify(io.BytesIO(file), [node.coordinator], receipts)
    assert report.ok, report.findings
    assert report.receipts == len(receipts) > 0


@pytest.mark.parametrize("stage", FOUR_STAGES)
def test_a_round_that_loses_too_many_fails_and_opens_and_charges_nothing(
    place: Site, stage: Stage
) -> None:
    before, spent = newest(place), charged(place)
    place.open_round()
    slot = place.round().slot
    ended = place.play(drops={stage: place.participants[1:]})
    assert ended.stage == Stage.FAILED
    assert ended.reason is not None and ended.reason.startswith("secure aggregation: ")
    assert (newest(place), charged(place)) == (before, spent)
    facts = place.last_facts()
    assert (facts.result, facts.charged, facts.reason) == (Result.ABORTED, False, ended.reason)
    place.open_round()
    assert place.round().slot == slot


def test_too_few_that_enlist_fail_the_round(place: Site) -> None:
    place.open_round()
    ended = place.play(drops={Stage.ENLISTING: place.participants[1:]})
    assert ended.reason == "1 nodes enlisted, 2 are needed"


def test_what_was_charged_stays_charged_when_nobody_unmasks(place: Site) -> None:
    before, spent = newest(place), charged(place)
    place.open_round()
    slot = place.round().slot
    ended = place.play(drops={Stage.UNMASKING: place.participants})
    assert ended.stage == Stage.FAILED
    assert (newest(place), charged(place)) == (before, spent + 1)
    assert place.last_facts().charged
    place.open_round()
    assert place.round().slot == slot + 1


def test_nothing_that_asks_for_shares_is_readable_before_the_charge(place: Site) -> None:
    spent = charged(place)
    round_id = place.open_round()
    place.play(until=Stage.SURVIVORS)
    for node in place.participants:
        node.answer_all()
    path = f"/v1/participant/rounds/{round_id}/outgoing/unmasking"
    assert place.participants[0].http.get(path).status_code == 404
    assert charged(place) == spent
    place.turn()
    assert place.participants[0].http.get(path).status_code == 200
    assert charged(place) == spent + 1


def test_two_workers_that_end_a_stage_at_once_come_to_one_result(place: Site) -> None:
    spent, before = charged(place), newest(place)
    place.open_round()
    stages = [stage for stage in Stage if not stage.is_over]
    for stage in stages:
        assert place.round().stage == stage
        for node in place.participants:
            node.answer_all()
        with ThreadPoolExecutor(3) as workers:
            done = list(workers.map(rounds.advance, [place.authority] * 3, [place.round_id] * 3))
        assert sorted(done) == [False, False, True]
    assert place.round().stage == Stage.RELEASED
    assert (charged(place), newest(place)) == (spent + 1, before + 1)


def test_a_worker_that_died_is_replaced_when_its_lease_has_run_out(place: Site) -> None:
    round_id = place.open_round()
    for node in place.participants:
        node.answer_all()
    lost = take(place.authority, round_id)
    assert lost is not None
    assert not rounds.advance(place.authority, round_id)
    with place.authority.database.write() as session:
        session.execute(update_rows(Round).where(Round.id == round_id).values(lease_until=1.0))
    assert rounds.advance(place.authority, round_id)
    assert place.round().stage == Stage.KEYS
    # The first was only slow, and comes too late.
    assert not commit(place.authority, lost, lambda _session, round_: setattr(round_, "joined", 0))
    assert place.round().joined == len(place.participants)


def test_stored_vectors_are_uniform_and_gone_when_the_round_ends(place: Site) -> None:
    round_id = place.open_round()
    place.play(until=Stage.MASKED)
    for node in place.participants:
        node.answer_all()
    folder = place.authority.home.round_vectors(round_id)
    files = sorted(folder.iterdir())
    assert len(files) == len(place.participants)
    header = len(files[0].read_bytes()) - 4 * 64
    stored = b"".join(path.read_bytes()[header:] for path in files)
    # Below one in a million for bytes that are uniform.
    assert chisquare(np.bincount(np.frombuffer(stored, np.uint8), minlength=256)).pvalue > 1e-6
    # Each of a word's 32 bits is one in half of the words, within six standard deviations: a bit
    # that masks leave alone, or that they turn in less than a third of the words, is found.
    words = np.unpackbits(np.frombuffer(stored, np.uint8)).reshape(-1, 32)
    assert np.abs(words.mean(axis=0) - 0.5).max() < 6 * 0.5 / math.sqrt(len(words))
    for node in place.participants:
        vector = node.entered[round_id].vector
        assert vector is not None and vector.astype(">u4").tobytes() not in stored
    place.expire()
    place.expire()
    assert place.round().stage == Stage.FAILED
    assert not folder.exists()


PER_NODE = {
    "message": {
        "round_id", "stage", "participant_id", "identity", "payload_hash", "signature", "payload",
    },
    "outgoing": {"round_id", "stage", "participant_id", "payload"},
    "receipt": {"round_id", "participant_id", "receipt"},
    "participant_session": {"challenge", "participant_id", "token_hash", "expires_at"},
    "old_identity": {"identity", "participant_id", "rotated_at"},
    "participant": {
        "id", "population", "name", "identity", "state", "created_at", "last_seen_at",
    },
    "enrolment": {"token_hash", "population", "label", "created_at", "expires_at", "used_by"},
}  # fmt: skip
"""Everything that may be stored about one node: who it is, and what the protocol sends."""


def test_what_is_stored_about_one_node_is_what_the_protocol_sends(place: Site) -> None:
    tables = CoordinatorBase.metadata.tables
    about_nodes = {
        name: set(table.columns.keys())
        for name, table in tables.items()
        if name == "participant"
        or any(key.column.table.name == "participant" for key in table.foreign_keys)
    }
    assert about_nodes == PER_NODE
    place.open_round()
    place.play(until=Stage.UNMASKING)
    with place.authority.database.read() as session:
        connection = session.connection()
        assert set(inspect(connection).get_table_names()) == {*tables, "alembic_version"}
        sent = session.execute(select(Message.stage, Message.payload)).all()
    # Receipts or nothing, public keys, sealed shares, signatures; no vector is in the database.
    assert all(payload is None for stage, payload in sent if stage == Stage.MASKED)
    place.play()
    with place.authority.database.read() as session:
        kept = session.execute(select(Message.stage, Message.payload)).all()
        assert {(stage, payload) for stage, payload in kept} == {(Stage.MASKED.value, None)}
        assert session.scalar(select(Outgoing.round_id)) is None
        states = session.scalars(select(Round.state).where(Round.ended_at.is_not(None)))
        assert set(states) == {None}


def test_vectors_that_a_stop_left_behind_are_swept(place: Site) -> None:
    round_id = place.open_round()
    place.play(until=Stage.MASKED)
    place.participants[0].answer_all()
    left = place.authority.home.round_vectors("0" * 32)
    left.mkdir()
    (left / "1").write_bytes(b"masked")
    driver.sweep(place.authority)
    kept = [folder.name for folder in place.authority.home.vectors.iterdir()]
    assert kept == [round_id]


def test_the_ledger_names_the_commit_and_what_is_installed(place: Site) -> None:
    git = ["git", "-C", str(provenance.ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    place.open_round()
    place.expire()
    facts = place.last_facts()
    assert facts.code_commit == (head or provenance.UNKNOWN_COMMIT)
    installed = {f"{d.name.lower().replace('_', '-')}=={d.version}\n" for d in distributions()}
    assert facts.lock_hash == hashlib.sha256("".join(sorted(installed)).encode()).hexdigest()
