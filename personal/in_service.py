"""Which personal versions are in service: what the database says is served, and nothing else.

Taking one out of service needs memory only and is done at once, in the thread that deleted it or
changed the shared version; putting one into service may load a file and is done after that.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

import structlog
from sqlalchemy.orm import Session

from federation.adapter_spec import AdapterKind
from personal import versions
from personal.tasks import Task, Trained
from retrieval import jobs
from retrieval.personal_examples import PersonalMaterial
from storage.database import Database
from storage.example_tables import PersonalKind, PersonalState, PersonalVersion

log = structlog.get_logger()


class PersonalAdapters(Protocol):
    """The personal adapters of one kind: what they are trained from, and how they are served."""

    @property
    def kind(self) -> PersonalKind: ...

    @property
    def model(self) -> str:
        """The identity of the model that is adapted; may take a second the first time."""
        ...

    @property
    def shared(self) -> str | None:
        """The shared version that is served now."""
        ...

    @property
    def served(self) -> dict[int, int]:
        """The version in service of each assistant that has one."""
        ...

    def problem(self, material: PersonalMaterial) -> str | None:
        """Why nothing can be learned from this; None if it can."""
        ...

    def task(self, assistant_id: int, material: PersonalMaterial) -> tuple[Task, str | None]:
        """What to train beside the shared version that is served, and that version."""
        ...

    def is_better(self, trained: Trained) -> bool:
        """Whether it is clearly better than the shared version alone."""
        ...

    def prepare(self, version: PersonalVersion) -> None:
        """Load what `serve` needs. Raises ValueError or OSError if it cannot be served."""
        ...

    def serve(self, version: PersonalVersion) -> None:
        """Put it in service, instead of another of its assistant, at once."""
        ...

    def withdraw(self, assistant_id: int) -> None:
        """Take an assistant's version out of service, at once; the shared one stays."""
        ...

    def tidy(self) -> None:
        """Free what versions left behind that are out of service; may wait for replies."""
        ...


ByKind = Mapping[PersonalKind, PersonalAdapters]


class InService:
    """Makes what is in service follow the database. Safe in any thread without an event loop."""

    def __init__(self, database: Database, kinds: ByKind) -> None:
        self._database = database
        self._kinds = kinds
        # Held for the look into the database and what follows from it, so that nothing that was
        # deleted in between comes into service.
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        # Whose shared version, or model, may have changed since it was last asked for trainings.
        self._changed = set(PersonalKind)

    def withdraw_deleted(self) -> None:
        """Take out of service what the database does not serve any more."""
        with self._lock:
            with self._database.read() as session:
                wanted = {(row.kind, row.assistant_id): row.id for row in versions.served(session)}
            for adapters in self._kinds.values():
                for assistant_id, number in adapters.served.items():
                    if wanted.get((adapters.kind, assistant_id)) != number:
                        adapters.withdraw(assistant_id)

    def withdraw_all(self, kind: AdapterKind) -> None:
        """The shared version of a kind has changed: nothing that was trained beside it fits."""
        adapters = self._kinds.get(PersonalKind(kind.value))
        if adapters is not None:
            with self._lock:
                self._changed.add(adapters.kind)
                for assistant_id in adapters.served:
                    adapters.withdraw(assistant_id)

    def serve(self) -> bool:
        """Put in service what is not yet; whether trainings were asked for.

        What was trained beside another shared version or for another model is kept, not served,
        and is to be trained anew. So is, once for each such change, what was not better beside the
        old one, or has failed since.
        """
        with self._turn:
            self.withdraw_deleted()
            has_asked = self._retire()
            with self._database.read() as session:
                wanted = versions.served(session)
            for version in wanted:
                adapters = self._kinds.get(version.kind)
                if adapters is not None and adapters.served.get(version.assistant_id) != version.id:
                    self._serve_one(adapters, version.id)
            for adapters in self._kinds.values():
                adapters.tidy()
        return has_asked

    def _serve_one(self, adapters: PersonalAdapters, number: int) -> None:
        with self._database.read() as session:
            version = versions.with_parameters(session, number)
        if version is None:
            return
        try:
            adapters.prepare(version)
            with self._lock:
                with self._database.read() as session:
                    version = versions.with_parameters(session, number)
                if version is not None and version.shared == adapters.shared:
                    adapters.serve(version)
        except Exception:
            # One that cannot be served must not keep the node from starting.
            log.exception("a personal adapter cannot be served", version=number)

    def _retire(self) -> bool:
        with self._lock:
            changed, self._changed = self._changed, set()
        try:
            with self._database.read() as session:
                if not self._stale(session, changed):
                    return False
            with self._database.write() as session:
                for version in self._stale(session, changed):
                    if version.state is PersonalState.SERVED:
                        version.state = PersonalState.KEPT
                    jobs.create_personal(session, version.assistant_id, {version.kind})
        except Exception:
            with self._lock:
                self._changed |= changed
            raise
        return True

    def _stale(self, session: Session, changed: set[PersonalKind]) -> list[PersonalVersion]:
        """The versions in place of which another is to be trained: of those that are served, and
        the newest of the kinds that have changed."""
        newest = [row for row in versions.newest(session) if row.kind in changed]
        rows = {row.id: row for row in (*versions.served(session), *newest)}
        return [row for row in rows.values() if self._is_stale(row)]

    def _is_stale(self, version: PersonalVersion) -> bool:
        adapters = self._kinds.get(version.kind)
        return adapters is not None and not fits(adapters, version)


def fits(adapters: PersonalAdapters, version: PersonalVersion) -> bool:
    """Whether a version can be served with what is served now."""
    return version.shared == adapters.shared and version.config.get("model") == adapters.model
