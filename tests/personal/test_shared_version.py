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
from federation.signed import Signed
from federation.versions import SignedVersion, Version
from retrieval import jobs
from retrieval.embedding import Embedder
from retrieval.query_map import basis_to_bytes, random_basis
from storage.example_tables import PersonalState, PersonalVersion
from storage.files import write_private
from storage.membership_tables import KnownPlan, Membership
from tests.federation.participant.plans import make_plan
from tests.nodes import until
from tests.personal.towns import Town, open_town, rule, story

DIMENSION, RANK = 384, 32
BASIS = basis_to_bytes(random_basis(DIMENSION, RANK, seed=1))


def know(town: Town, embedder: Embedder) -> FederationPlan:
    """A plan of a federation that the node has joined."""
    adapter = AdapterSpec(
        kind=AdapterKind.RETRIEVER,
        base_model=embedder.identity,
        rank=RANK,
        scale=1.0,
        basis_hash=blob_hash(BASIS),
        blocks=(Block("weights", RANK, DIMENSION),),
    )
    privacy = {"dimension": adapter.dimension, "grid": 1e-4}
    plan = make_plan(adapter=adapter, privacy=privacy)
    home = FederationHome(town.node.home.root / "federation")
    write_private(home.files / plan.adapter.basis_hash, BASIS)
    membership = Membership(
        id="m", url="https://c", coordinator="c0" * 32, name="n", identity="1d" * 32
    )
    stored = Signed(plan, "c0" * 32, "").to_bytes()
    with town.node.database.write() as session:
        session.add(membership)
        session.flush()
        session.add(
            KnownPlan(plan_hash=plan.hash, membership_id="m", federation="questions", plan=stored)
        )
    return plan


def version(plan: FederationPlan, number: int) -> SignedVersion:
    record = Version(
        "questions", plan.hash, number, plan.adapter.hash, plan.adapter.base_model, "ab" * 32,
        "round", "cd" * 32,
    )  # fmt: skip
    return Signed(record, "c0" * 32, "")


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

        plan = know(town, embedder)
        adoption = town.federation.adoption
        assert adoption is not None
        weak = 1e-3 * np.random.default_rng(3).standard_normal(DIMENSION * RANK)
        parameters = parameters_to_bytes(weak.astype(np.float32))
        adoption.keep(plan, version(plan, 1), parameters)
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
