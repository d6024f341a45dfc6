"""The personal query maps of a node: what they are trained from, and how they are served."""

from __future__ import annotations

import numpy as np
import safetensors.numpy

from federation.participant.service import FederationService
from personal.tasks import MapTask, Trained
from retrieval.embedding import Embedder, Vectors
from retrieval.library import Library
from retrieval.personal_examples import PersonalMaterial
from retrieval.query_map import QueryMap, random_basis
from storage.example_tables import PersonalKind, PersonalVersion

OWN_RANK = 64
"""Of a map where no shared one gives the basis."""


class PersonalMaps:
    """See `personal.in_service.PersonalAdapters`."""

    kind = PersonalKind.RETRIEVER

    def __init__(
        self, source: str, embedder: Embedder, library: Library, federation: FederationService
    ) -> None:
        """`source` is the embedder as the node's settings name it."""
        self._source = source
        self._embedder = embedder
        self._library = library
        self._federation = federation
        self._served: dict[int, int] = {}

    @property
    def model(self) -> str:
        return self._embedder.identity

    @property
    def shared(self) -> str | None:
        served = self._federation.shared_map
        return None if served is None else served.name

    @property
    def served(self) -> dict[int, int]:
        return dict(self._served)

    def problem(self, material: PersonalMaterial) -> str | None:
        # Its optimiser takes a moment to import.
        from retrieval.personal_map import MIN_EXAMPLES

        count = len(material.examples)
        if count >= MIN_EXAMPLES:
            return None
        return (
            f"a personal retriever needs {MIN_EXAMPLES} examples, and there are {count}: labelled"
            " questions, approved feedback, or documents with headings"
        )

    def task(self, assistant_id: int, material: PersonalMaterial) -> tuple[MapTask, str | None]:
        served = self._federation.shared_map
        if served is None:
            basis = random_basis(self._embedder.dimension, OWN_RANK, assistant_id)
            return self._task(material, basis, None), None
        return self._task(material, served.query_map.basis, served.query_map.weights), served.name

    def _task(self, material: PersonalMaterial, basis: Vectors, shared: Vectors | None) -> MapTask:
        return MapTask(self._source, material.passages, material.examples, basis, shared)

    def is_better(self, trained: Trained) -> bool:
        return trained.config["strength"] is not None

    def prepare(self, version: PersonalVersion) -> None:
        self._whole(version)

    def serve(self, version: PersonalVersion) -> None:
        self._library.searcher.set_personal_map(version.assistant_id, self._whole(version))
        self._served[version.assistant_id] = version.id

    def _whole(self, version: PersonalVersion) -> QueryMap:
        """The shared map and a personal one as one."""
        shared = self._federation.shared_map
        own = QueryMap(**safetensors.numpy.load(version.parameters))
        if shared is None:
            return own
        if own.basis.tobytes() != shared.query_map.basis.tobytes():
            raise ValueError("the personal query map is on another basis than the shared one")
        with np.errstate(over="ignore"):
            # A sum that is not finite is no query map.
            return QueryMap(own.basis, shared.query_map.weights + own.weights)

    def withdraw(self, assistant_id: int) -> None:
        self._library.searcher.set_personal_map(assistant_id, None)
        self._served.pop(assistant_id, None)

    def tidy(self) -> None:
        """Nothing is left of a map that was withdrawn."""
