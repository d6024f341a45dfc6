"""Modes `client` and `local`: what a real round of real nodes adds to the vector.

Three nodes with the same documents, so that what they send adds up instead of averaging out, and
rows so short-clipped that each has the clipping norm. The released step, projected on the direction
that the nodes' examples give, is then a known length plus one number of known Gaussian noise.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from sqlalchemy import select

from federation.adapter_spec import parameters_from_bytes
from federation.coordinator import versions
from federation.invitation import Stage
from federation.participant.identity import FederationHome
from federation.plan import FederationPlan, Optimiser, OptimiserName, Timing
from federation.rows import MapRows
from privacy.plan import Mode
from retrieval.embedding import Embedder, TextVectors
from retrieval.examples import ExampleSource
from retrieval.training_terms import MapTerms
from storage.coordinator_tables import Round
from storage.node_tables import Document
from tests.federation.participant.plans import BASIS, PUBLIC_TEXTS, SIZE
from tests.federation.participant.sites import (
    SUBJECTS,
    LearningSite,
    Member,
    contributions,
    fill,
    learning_site,
    member,
    plans,
    until,
)
from tests.processes import children_with

NODES = ("one", "two", "three")
CLIP = 1e-3
TERMS: dict[str, Any] = {
    # So warm that losses are not flat zero on texts as easily told apart as these.
    "map_terms": MapTerms(temperature=1.0),
    "optimiser": Optimiser(OptimiserName.FEDAVG, 1.0),
    # Stages end when all have answered, uploads leave when the test says, no second round begins.
    "timing": Timing(90.0, 90.0, 600.0, 600.0),
}
PRIVACY: dict[Mode, dict[str, Any]] = {
    Mode.CLIENT: {
        "noise_multiplier": 0.3, "rounds": 1, "max_participations": 1,
        "sampling_rate": 1.0, "row_cap": None, "planned_rows": None,
    },
    Mode.LOCAL: {"noise_multiplier": 0.45, "sampling_rate": 1.0},
}  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", PRIVACY)
def test_a_round_moves_the_map_where_the_nodes_examples_point(
    mode: Mode, tmp_path: Path, embedder: Embedder
) -> None:
    privacy = {"mode": mode, "clip_norm": CLIP, "grid": CLIP / (100 * math.sqrt(SIZE))}
    with ExitStack() as stack:
        site = stack.enter_context(
            learning_site(
                tmp_path / "coordinator", embedder.identity, **TERMS,
                privacy=privacy | PRIVACY[mode],
            )
        )  # fmt: skip
        members = [stack.enter_context(member(tmp_path / name, embedder)) for name in NODES]
        for one, name in zip(members, NODES, strict=True):
            fill(one.node, one.assistant_id, SUBJECTS["north"])
            one.service.join(site.url, site.token(), name)
        site.approve_all()
        for one in members:
            until(lambda one=one: plans(one), "every node has read the plan")
            assert [row.refusals for row in plans(one)] == [""]
        site.start()
        for one in members:
            upload_when_trained(one)
        until(lambda: has_released(site), "the round is released")

        secrets = [FederationHome(tmp_path / name / "federation").secret() for name in NODES]
        sources = [
            ExampleSource(one.node.database, secret)
            for one, secret in zip(members, secrets, strict=True)
        ]
        wanted = expected_sum(site.plan, embedder, sources)
        length = float(np.linalg.norm(wanted))
        terms = site.plan.privacy
        noise = terms.share_sigma * terms.grid * math.sqrt(len(NODES))
        projected = float(released_step(site) * terms.divisor @ wanted) / length
        assert length / noise > 6
        assert abs(projected - length) / noise < 5

        if mode is Mode.LOCAL:
            assert len(training_processes()) == len(NODES)
            with members[0].node.database.read() as session:
                first = session.scalars(select(Document.id).limit(1)).one()
            members[0].node.library.erase(members[0].assistant_id, [first], 30)
            until(lambda: len(training_processes()) == 2, "the node's training process has ended")


def expected_sum(
    plan: FederationPlan, embedder: Embedder, sources: list[ExampleSource]
) -> NDArray[np.float64]:
    """The sum of the clipped rows of all nodes, shape (d,), in the direction of the step."""
    rows = MapRows(plan, BASIS, PUBLIC_TEXTS, TextVectors(embedder))
    start = np.zeros(SIZE, np.float32)
    total = np.zeros(SIZE)
    for source in sources:
        subjects = [
            (name, rows.prepare(examples)) for name, examples in source.examples(source.subjects())
        ]
        if plan.privacy.mode is Mode.CLIENT:
            own = [rows.of_node([one for _, every in subjects for one in every], start, 0)]
        else:
            own = [-row for _, row in rows.of_subjects(subjects, start)]
        for row in own:
            total += row / max(1.0, float(np.linalg.norm(row)) / CLIP)
    return total


def upload_when_trained(one: Member) -> None:
    """Let the vector leave when its rows are done, where the plan's time would be a guess."""
    (worker,) = one.service._workers.values()
    (federation,) = worker._federations.values()

    def is_trained() -> bool:
        return any(
            federation.trainer is not None and federation.trainer.wait(entered.round_id, 0.5)
            for entered in contributions(one)
        )

    until(is_trained, "the rows are done")
    worker._rounds._due = dict.fromkeys(worker._rounds._due, time.monotonic())


def released_step(site: LearningSite) -> NDArray[np.float64]:
    """What the round added to the vector, which began at zero."""
    with site.authority.database.read() as session:
        newest = versions.newest(session, site.plan.federation, whole=True)
    assert newest.number == 1
    return parameters_from_bytes(newest.parameters, site.plan.adapter).astype(np.float64)


def has_released(site: LearningSite) -> bool:
    with site.authority.database.read() as session:
        rounds = session.scalars(select(Round)).all()
    assert not [one.reason for one in rounds if one.stage == Stage.FAILED]
    return any(one.stage == Stage.RELEASED for one in rounds)


def training_processes() -> list[psutil.Process]:
    """Of the nodes in this process, those that still run."""
    return children_with("training_process")
