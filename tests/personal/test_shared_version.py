"""A personal map belongs to the shared version that it was trained beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from federation.adapter_spec import (
    AdapterKind,
    AdapterSpec,
    Block,
    blob_hash,
    parameters_to_bytes,
)
from federation.participant.identity import FederationHome
from federation.plan import FederationPlan
from personal import service
from personal.service import PersonalError
from retrieval import jobs
from retrieval.embedding import Embedder
from retrieval.query_map import basis_to_bytes
from storage.example_tables import PersonalState, PersonalVersion
from tests.federation.participant.plans import know, make_plan, signed_version
from tests.nodes import until
from tests.personal.towns import (
    BASIS,
    DIMENSION,
    PLACES,
    RANK,
    Town,
    open_town,
    rule,
    story,
)


def join(town: Town, embedder: Embedder) -> FederationPlan:
    """A plan of a federation that the node has joined."""
    adapter = AdapterSpec(
        kind=AdapterKind.RETRIEVER,
        base_model=embedder.identity,
        rank=RANK,
        scale=1.0,
        basis_hash=blob_hash(basis_to_bytes(BASIS)),
        blocks=(Block("weights", RANK, DIMENSION),),
    )
    privacy = {"dimension": adapter.dimension, "grid": 1e-4}
    plan = make_plan(adapter=adapter, privacy=privacy)
    home = FederationHome(town.node.home.root / "federation")
    know(town.node.database, home, plan, basis_to_bytes(BASIS))
    return plan


@pytest.mark.long
def test_it_is_trained_anew_when_the_shared_version_changes(
    tmp_path: Path, embedder: Embedder
) -> None:
    with open_town(tmp_path / "home", embedder) as town:
        assistant = town.node.assistant()
        town.settle(assistant)
        town.teach(assistant)
        town.train(assistant)
        alone = town.served(assistant)
        assert alone is not None and alone.shared is None

        plan = join(town, embedder)
        adoption = town.federation.adoption
        assert adoption is not None
        weak = 1e-3 * np.random.default_rng(3).standard_normal(DIMENSION * RANK)
        parameters = parameters_to_bytes(weak.astype(np.float32))
        adoption.keep(plan, signed_version(plan, 1), parameters)
        adoption.pin(plan.hash, 1)
        until(lambda: (now := town.served(assistant)) is not None and now.id != alone.id)
        beside = town.served(assistant)
        assert beside is not None and beside.shared == f"{plan.hash}/1"
        until(lambda: town.found(assistant, "dairy")[0][0] == rule("dairy"))
        with town.node.database.read() as session:
            kept = session.get_one(PersonalVersion, alone.id)
        assert kept.state is PersonalState.KEPT

        # What is trained now must not hide what is served without it.
        assert town.personal._trainings is not None
        town.personal._trainings.close()
        adoption.refuse(plan.hash, 1)
        assert town.found(assistant, "dairy")[0][0] == story("dairy")

        def waiting() -> int:
            with town.node.database.read() as session:
                return len(jobs.open_personal(session, assistant))

        until(waiting)
        town.personal.serve(assistant, alone.id)
        assert town.found(assistant, "dairy")[0][0] == rule("dairy")


def adopt(town: Town, embedder: Embedder, largest: float = 1e-3) -> FederationPlan:
    """Have the node serve a shared map."""
    plan = join(town, embedder)
    assert town.federation.adoption is not None
    drawn = np.random.default_rng(3).uniform(-largest, largest, DIMENSION * RANK)
    parameters = parameters_to_bytes(drawn.astype(np.float32))
    town.federation.adoption.keep(plan, signed_version(plan, 1), parameters)
    town.federation.adoption.pin(plan.hash, 1)
    return plan


def test_what_was_worse_or_failed_is_trained_again_beside_another_shared_version(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_town(tmp_path / "home", embedder) as town:
        # Nothing is trained; what counts is that it is asked for.
        assert town.personal._trainings is not None
        town.personal._trainings.close()
        assistant = town.node.assistant()
        town.settle(assistant, PLACES[:6])
        town.teach(assistant, PLACES[:6])
        town.plant(assistant, is_better=False)
        assert not town.is_training(assistant)
        adopt(town, embedder)
        until(lambda: town.is_training(assistant))

        with town.node.database.write() as session:
            for job in jobs.open_personal(session, assistant):
                for item in job.items:
                    jobs.fail(session, item.id, "training_failed", "by the test")
        # Not again and again by itself, but where a schedule asks for what has changed.
        town.personal._serve()
        assert not town.is_training(assistant)
        monkeypatch.setattr(service, "HOUR_SECONDS", 0)
        town.personal.schedule(assistant, 1)
        until(lambda: town.is_training(assistant))


def test_one_that_cannot_be_served_keeps_nothing_from_starting(
    tmp_path: Path, embedder: Embedder
) -> None:
    """Both maps are finite, their sum is not."""
    root = tmp_path / "home"
    with open_town(root, embedder) as town:
        assistant = town.node.assistant()
        town.settle(assistant, PLACES[:2])
        adopt(town, embedder, largest=3e38)
        plain = town.found(assistant, PLACES[0])
        made = town.plant(assistant, largest=3e38)
        assert town.found(assistant, PLACES[0]) == plain
        with town.node.database.write() as session:
            row = session.get_one(PersonalVersion, made.id)
            row.config = {**row.config, "imported": True}
        with pytest.raises(PersonalError) as refused:
            town.personal.serve(assistant, made.id)
        assert refused.value.code == "does_not_fit"
    with open_town(root, embedder) as town:
        assert town.found(assistant, PLACES[0]) == plain
