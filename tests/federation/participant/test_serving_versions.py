"""Which version of a shared adapter a node serves: what its own questions, its owner and the
coordinator say of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from federation.adapter_spec import parameters_to_bytes
from federation.participant.adoption import Adoption
from federation.participant.base_models import BaseModels
from federation.participant.coordinator_client import CoordinatorClient
from federation.participant.identity import FederationHome
from federation.participant.plan_files import PlanFiles
from federation.participant.version_trials import VersionTrials
from federation.participant.versions import VersionSource
from federation.plan import FederationPlan
from retrieval import questions
from retrieval.embedding import Embedder
from retrieval.examples import ExampleSource
from retrieval.questions import NewQuestion
from storage.membership_tables import (
    SharedVersion,
    VersionState,
)
from storage.node_tables import Document
from storage.settings import NodeSettings
from tests.federation.participant.plans import BASIS, SIZE, know, make_plan, signed_version
from tests.federation.participant.sites import SUBJECTS, fill
from tests.nodes import Node, open_node


@contextmanager
def trying(folder: Path, embedder: Embedder) -> Iterator[tuple[Node, Adoption, FederationPlan]]:
    """A node with documents that knows a plan and has served no version of it."""
    plan = make_plan(embedder.identity)
    with open_node(folder, embedder) as node:
        fill(node, node.assistant(), SUBJECTS["north"])
        home = FederationHome(folder / "federation")
        know(node.database, home, plan, BASIS)
        source = ExampleSource(node.database, b"s" * 32)
        models = BaseModels(NodeSettings(home=folder), embedder)
        yield (
            node,
            Adoption(node.database, home, source, models, embedder, node.library, None),
            plan,
        )


def along(length: float) -> bytes:
    """Of a random map: 1e-3 changes no rank, 1e4 sends every question to one place."""
    direction = np.random.default_rng(3).standard_normal(SIZE)
    return parameters_to_bytes((length * direction).astype(np.float32))


HARMLESS, HARMFUL = along(1e-3), along(1e4)


def test_a_harmful_version_is_not_served_unless_the_owner_pins_it(
    tmp_path: Path, embedder: Embedder
) -> None:
    with trying(tmp_path / "home", embedder) as (node, adoption, plan):

        def served() -> dict[int, VersionState]:
            with node.database.read() as session:
                return {row.number: row.state for row in session.scalars(select(SharedVersion))}

        def scores() -> list[float]:
            found = node.library.searcher.candidates(node.assistant(), "where lives the oak?")
            return sorted(found.dense.tolist())

        plain = scores()
        for number, parameters in ((1, HARMLESS), (2, HARMFUL), (3, HARMLESS)):
            adoption.keep(plan, signed_version(plan, number), parameters)
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
            adoption.keep(plan, signed_version(plan, number), parameters)
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
        adoption.keep(plan, signed_version(plan, 1), HARMFUL)
        adoption.keep(plan, signed_version(plan, 2), HARMLESS)
        assert promoted(1) == ([VersionState.HARMFUL, retired], False)
        assert promoted(2) == ([VersionState.HARMFUL, served], True)
        assert promoted(1) == ([VersionState.HARMFUL, retired], False)
        assert promoted(2) == ([VersionState.HARMFUL, served], True)
        assert promoted(0) == ([VersionState.HARMFUL, retired], False)
        adoption.pin(plan.hash, 2)
        assert promoted(0) == ([VersionState.HARMFUL, served], True)
        trials.close()
        client.close()
