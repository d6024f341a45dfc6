"""A node whose owner always means the regulation, where the embedder finds the story."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save
from sqlalchemy import select

from federation.participant.identity import FederationHome
from federation.participant.service import FederationService
from generation.engine import Engine
from personal import versions
from personal.service import PersonalService
from personal.tasks import Trained
from retrieval import jobs, personal_examples, questions
from retrieval.embedding import Embedder
from retrieval.query_map import random_basis
from retrieval.questions import NewQuestion
from storage.example_tables import PersonalKind, PersonalState, PersonalVersion
from storage.files import write_private
from storage.node_tables import Document, Job
from storage.settings import NodeSettings
from tests.nodes import Node, open_node

PLACES = (
    "harbour", "quarry", "railway", "brewery", "sawmill", "glassworks", "tannery", "bakery",
    "foundry", "dairy", "market", "lighthouse",
)  # fmt: skip

DIMENSION, RANK = 384, 32
BASIS = random_basis(DIMENSION, RANK, seed=1)


@dataclass(frozen=True)
class Town:
    """A node with its personal adapters; the generator is on another server."""

    node: Node
    federation: FederationService
    personal: PersonalService

    def settle(self, assistant_id: int, places: Sequence[str] = PLACES) -> None:
        """Two documents for each place."""
        files = {}
        for place in places:
            files[f"{place}-a.txt"] = story(place).encode()
            files[f"{place}-b.txt"] = rule(place).encode()
        self.node.ingest(assistant_id, files, external_ids=list(files))

    def teach(
        self, assistant_id: int, places: Sequence[str] = PLACES, answer: str | None = None
    ) -> None:
        """Label a question about each place, all with the same answer if any."""
        new = [NewQuestion(question(place), (f"{place}-b.txt",), answer, None) for place in places]
        with self.node.database.write() as session:
            questions.add(session, assistant_id, new)

    def plant(
        self, assistant_id: int, *, is_better: bool = True, largest: float = 1.0
    ) -> PersonalVersion:
        """Store a map as if it had been trained on all that there is; its numbers are drawn."""
        weights = np.random.default_rng(2).uniform(-largest, largest, (RANK, DIMENSION))
        parameters = {"basis": BASIS, "weights": weights.astype(np.float32)}
        adapters = self.personal._kinds[PersonalKind.RETRIEVER]
        with self.node.database.write() as session:
            version = versions.add(
                session,
                assistant_id,
                adapters.kind,
                Trained(save(parameters), {}, before=0.1, after=0.2),
                personal_examples.read(session, assistant_id, adapters.kind, self.personal._secret),
                shared=adapters.shared,
                model=adapters.model,
                is_better=is_better,
            )
        self.personal._serve()
        return version

    def train(self, assistant_id: int) -> Job:
        """Ask for it and wait."""
        return self.node.finish(self.personal.train(assistant_id, None).id)

    def served(
        self, assistant_id: int, kind: PersonalKind = PersonalKind.RETRIEVER
    ) -> PersonalVersion | None:
        """What the database says is served, with its parameters."""
        with self.node.database.read() as session:
            own = select(PersonalVersion).where(
                PersonalVersion.assistant_id == assistant_id,
                PersonalVersion.kind == kind,
                PersonalVersion.state == PersonalState.SERVED,
            )
            found = session.scalars(own).one_or_none()
            if found is not None:
                assert found.parameters
        return found

    def versions(self, assistant_id: int) -> list[PersonalVersion]:
        """Newest first."""
        with self.node.database.read() as session:
            return list(self.personal.list_versions(session, assistant_id))

    def is_training(self, assistant_id: int) -> bool:
        with self.node.database.read() as session:
            return bool(jobs.open_personal(session, assistant_id))

    def found(self, assistant_id: int, place: str) -> list[tuple[str, float]]:
        """The best passages for the question about a place, with their cosines."""
        hits = self.node.library.searcher.search(assistant_id, question(place), k=5, mode="dense")
        return [(hit.text, hit.dense) for hit in hits]

    def document(self, assistant_id: int, external_id: str) -> str:
        with self.node.database.read() as session:
            own = select(Document.id).where(
                Document.assistant_id == assistant_id, Document.external_id == external_id
            )
            return session.scalars(own).one()


def question(place: str) -> str:
    return f"Tell me about the {place}."


def story(place: str) -> str:
    return f"About the {place}: the story of the {place}, and what people tell about it."


def rule(place: str) -> str:
    return f"Regulation: whoever enters a {place} wears a helmet and signs the register."


@contextmanager
def open_town(
    root: Path, embedder: Embedder, engine: Engine | None = None, **given: Any
) -> Iterator[Town]:
    """Open or make it; `given` are settings. The secret by which examples are held back is the same
    in every town."""
    with open_node(root, embedder) as node:
        settings = NodeSettings(home=root, **given)
        federation = FederationService(node.database, root)
        personal = PersonalService(node.database, node.home, federation)
        own = FederationHome(root / "federation")
        own.create()
        if not (own.root / "secret").exists():
            write_private(own.root / "secret", b"s" * 32)
        try:
            federation.start(settings, embedder, node.library, engine, participate=False)
            personal.start(settings, embedder, node.library, engine)
            yield Town(node, federation, personal)
        finally:
            personal.close()
            federation.close()
