"""The personal LoRAs of a node: what they are trained from, and how they are served."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from federation.participant.base_models import generator_identity
from federation.participant.service import FederationService
from generation.transformers_engine import TransformersEngine
from generation.weights import find_model
from personal import versions
from personal.tasks import LoraTask, Trained
from retrieval.personal_examples import PersonalMaterial
from storage.example_tables import PersonalKind, PersonalVersion

LEAVING_SECONDS = 60.0
"""From withdrawing an adapter to unloading it."""


class PersonalLoras:
    """See `personal.in_service.PersonalAdapters`."""

    kind = PersonalKind.GENERATOR

    def __init__(
        self, source: str, engine: TransformersEngine, federation: FederationService
    ) -> None:
        """`source` is the generator as the node's settings name it."""
        self._source = source
        self._engine = engine
        self._federation = federation
        self._model: str | None = None
        self._loaded: set[str] = set()
        # What was withdrawn may still be asked for by a request that has just read its name.
        self._leaving: dict[str, float] = {}
        self._served: dict[int, _Served] = {}

    @property
    def model(self) -> str:
        if self._model is None:
            self._model = generator_identity(self._source)
        return self._model

    @property
    def shared(self) -> str | None:
        served = self._federation.shared_lora
        return None if served is None else served.name

    @property
    def served(self) -> dict[int, int]:
        return {assistant_id: one.number for assistant_id, one in dict(self._served).items()}

    def adapters(self, assistant_id: int, shared: tuple[str, ...]) -> tuple[str, ...]:
        """The shared adapters with the assistant's own, if that was trained beside just these."""
        served = self._served.get(assistant_id)
        if served is None or served.beside != shared:
            return shared
        return (*shared, _name(served.number))

    def problem(self, material: PersonalMaterial) -> str | None:
        # Its optimiser takes a moment to import.
        from retrieval.personal_map import MIN_EXAMPLES

        count = len(material.examples)
        if count >= MIN_EXAMPLES and len({example.fold for example in material.examples}) > 1:
            return None
        return (
            f"a personal generator needs {MIN_EXAMPLES} examples with an answer, of which some can"
            f" be held back; there are {count}"
        )

    def task(self, assistant_id: int, material: PersonalMaterial) -> tuple[LoraTask, str | None]:
        files = find_model(self._source)
        served = self._federation.shared_lora
        shared, name = (None, None) if served is None else (served.lora, served.name)
        task = LoraTask(files, material.passages, material.examples, shared, assistant_id)
        return task, name

    def is_better(self, trained: Trained) -> bool:
        return trained.after < trained.before

    def prepare(self, version: PersonalVersion) -> None:
        name = _name(version.id)
        if name not in self._loaded:
            asyncio.run(self._engine.load_adapter(name, versions.lora_of(version)))
            self._loaded.add(name)

    def serve(self, version: PersonalVersion) -> None:
        shared = self._federation.shared_lora
        beside = () if shared is None else (shared.adapter,)
        self._leaving.pop(_name(version.id), None)
        self._served[version.assistant_id] = _Served(version.id, beside)

    def withdraw(self, assistant_id: int) -> None:
        self._served.pop(assistant_id, None)

    def tidy(self) -> None:
        """Unload what has been out of service for a while; waits for replies that use it."""
        served = {_name(number) for number in self.served.values()}
        for name in sorted(self._loaded - served):
            since = self._leaving.setdefault(name, time.monotonic())
            if time.monotonic() - since > LEAVING_SECONDS:
                asyncio.run(self._engine.unload_adapter(name))
                self._loaded.discard(name)
                self._leaving.pop(name)


@dataclass(frozen=True, slots=True)
class _Served:
    """A version in service, and the engine's names of what it was trained beside."""

    number: int
    beside: tuple[str, ...]


def _name(number: int) -> str:
    return f"personal-{number}"
