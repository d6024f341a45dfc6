"""A node's personal adapters: trained when asked for, when due and after an erasure; served."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session, undefer

from federation.adapter_spec import AdapterKind
from federation.participant.identity import FederationHome
from federation.participant.service import FederationService
from generation.engine import Engine
from personal import versions
from personal.in_service import InService, PersonalAdapters, fits
from personal.retriever import PersonalMaps
from personal.trainings import Trainings
from retrieval import jobs, personal_examples
from retrieval.embedding import Embedder
from retrieval.library import Library
from storage.database import Database
from storage.declarative import now
from storage.example_tables import PersonalKind, PersonalState, PersonalVersion
from storage.home import NodeHome
from storage.node_tables import Assistant, Job
from storage.settings import NodeSettings

log = structlog.get_logger()

CHECK_SECONDS = 60.0
"""Between looks at what is due."""

HOUR_SECONDS = 3_600


class PersonalError(ValueError):
    """What the owner asked for cannot be done; `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnknownVersionError(PersonalError):
    """There is no such version of this assistant."""

    def __init__(self, number: int) -> None:
        super().__init__("version_not_found", f"there is no personal version {number}")


class PersonalService:
    """One per process; its methods are safe in any thread without a running event loop."""

    def __init__(self, database: Database, home: NodeHome, federation: FederationService) -> None:
        self._database = database
        self._home = home
        self._federation = federation
        self._kinds: dict[PersonalKind, PersonalAdapters] = {}
        self._secret = b""
        self._in_service = InService(database, self._kinds)
        self._trainings: Trainings | None = None
        self._adapters: Callable[[int, tuple[str, ...]], tuple[str, ...]] | None = None
        self._looked: dict[int, int] = {}
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="personal", daemon=True)
        database.on_deletion(self._deleted)
        federation.on_shared_change(self._shared_changed)

    def start(
        self, settings: NodeSettings, embedder: Embedder, library: Library, engine: Engine | None
    ) -> None:
        """Serve again what was served, and go on with the trainings that a stop interrupted."""
        home = FederationHome(self._home.root / "federation")
        home.create()
        self._secret = home.secret()
        maps = PersonalMaps(settings.embedder, embedder, library, self._federation)
        self._kinds[maps.kind] = maps
        self._add_generator(settings, engine)
        self._serve()
        self._trainings = Trainings(self._database, self._kinds, self._secret, self._serve)
        self._trainings.start()
        self._thread.start()

    def close(self) -> None:
        """Stop; a training that is under way begins anew at the next start."""
        self._closing.set()
        self._wake.set()
        if self._trainings is not None:
            self._trainings.close()
            self._thread.join()

    def generator_adapters(self, assistant_id: int) -> tuple[str, ...]:
        """For `GenerationRequest.adapters`: the shared one, the assistant's own, both or none."""
        shared = self._federation.generator_adapters
        return shared if self._adapters is None else self._adapters(assistant_id, shared)

    def train(self, assistant_id: int, kinds: Collection[PersonalKind] | None) -> Job:
        """Ask for training; by default of all adapters that can be trained here.

        Raises:
            PersonalError: there is too little to learn from, the node cannot train a kind, or it is
                training for this assistant already.
        """
        problems = self._problems(assistant_id, kinds or list(self._kinds))
        possible = [kind for kind, problem in problems.items() if problem is None]
        if not possible or (kinds and len(possible) < len(problems)):
            raise next(problem for problem in problems.values() if problem is not None)
        with self._database.write() as session:
            if waiting := jobs.open_personal(session, assistant_id):
                raise PersonalError(
                    "training_under_way", f"{waiting[0].id} is training for this assistant already"
                )
            job = jobs.create_personal(session, assistant_id, possible)
        self._train_soon()
        return job

    def list_versions(self, session: Session, assistant_id: int) -> Sequence[PersonalVersion]:
        """The versions of an assistant, newest first."""
        return versions.list_all(session, assistant_id)

    def serve(self, assistant_id: int, number: int) -> PersonalVersion:
        """Serve a version that is kept, instead of the one that is served.

        Raises:
            UnknownVersionError: the assistant has none of this number.
            PersonalError: it was not better, or belongs to another shared version or model.
        """
        self._check_imported(number)
        with self._database.write() as session:
            version = session.get(PersonalVersion, number)
            if version is None or version.assistant_id != assistant_id:
                raise UnknownVersionError(number)
            if version.state is PersonalState.WORSE:
                raise PersonalError(
                    "worse",
                    f"version {number} was not clearly better than the shared one alone, and not "
                    "kept",
                )
            adapters = self._kinds.get(version.kind)
            if adapters is not None and version.config.get("imported"):
                # It was trained elsewhere; the owner says that it belongs beside this one.
                version.shared = adapters.shared
            if adapters is None or not fits(adapters, version):
                raise PersonalError(
                    "other_shared_version",
                    f"version {number} was trained beside another shared version or for another"
                    " model; train it anew",
                )
            versions.switch(session, version)
        self._in_service.withdraw_deleted()
        self._serve()
        return version

    def reset(self, assistant_id: int) -> None:
        """Delete all versions of an assistant physically, and give up its trainings."""
        with self._database.write() as session:
            versions.remove_all(session, assistant_id)

    def schedule(self, assistant_id: int, hours: int | None) -> None:
        """Train every so many hours if something has changed; None: only when asked."""
        with self._database.write() as session:
            session.get_one(Assistant, assistant_id).personal_hours = hours
        self._looked.pop(assistant_id, None)
        self._wake.set()

    def _check_imported(self, number: int) -> None:
        """Raises PersonalError if an imported version does not fit what is served now."""
        with self._database.read() as session:
            version = session.get(
                PersonalVersion, number, options=[undefer(PersonalVersion.parameters)]
            )
        adapters = None if version is None else self._kinds.get(version.kind)
        if version is None or adapters is None or not version.config.get("imported"):
            return
        try:
            adapters.prepare(version)
        except (ValueError, OSError) as error:
            raise PersonalError("does_not_fit", str(error)) from error

    def _add_generator(self, settings: NodeSettings, engine: Engine | None) -> None:
        from generation.transformers_engine import TransformersEngine

        if isinstance(engine, TransformersEngine):
            from personal.generator import PersonalLoras

            loras = PersonalLoras(settings.generator, engine, self._federation)
            self._kinds[loras.kind] = loras
            self._adapters = loras.adapters

    def _problems(
        self, assistant_id: int, kinds: Collection[PersonalKind]
    ) -> dict[PersonalKind, PersonalError | None]:
        """Why each kind cannot be trained; None if it can."""
        found: dict[PersonalKind, PersonalError | None] = {}
        for kind in kinds:
            adapters = self._kinds.get(kind)
            if adapters is None:
                message = f"the {kind} is on another server and is not trained here"
                found[kind] = PersonalError("no_training", message)
                continue
            with self._database.read() as session:
                material = personal_examples.read(session, assistant_id, kind, self._secret)
            problem = adapters.problem(material)
            found[kind] = None if problem is None else PersonalError("too_few_examples", problem)
        return found

    def _deleted(self) -> None:
        """Something was deleted: what learned from it is out of service when this returns."""
        self._in_service.withdraw_deleted()
        if self._trainings is not None:
            self._trainings.check()
            self._trainings.wake()

    def _shared_changed(self, kind: AdapterKind) -> None:
        self._in_service.withdraw_all(kind)
        if self._trainings is not None:
            self._trainings.check()
        self._wake.set()

    def _serve(self) -> None:
        if self._in_service.serve():
            self._train_soon()

    def _train_soon(self) -> None:
        if self._trainings is not None:
            self._trainings.wake()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._serve()
                self._ask_where_due()
            except Exception:
                log.exception("personal adapters could not be looked after; tried again later")
            self._wake.wait(CHECK_SECONDS)
            self._wake.clear()

    def _ask_where_due(self) -> None:
        with self._database.read() as session:
            own = select(Assistant.id, Assistant.personal_hours)
            rows = session.execute(own.where(Assistant.personal_hours.is_not(None))).all()
            last = {row.id: versions.last_job(session, row.id) or 0 for row in rows}
        for row in rows:
            since = max(last[row.id], self._looked.get(row.id, 0))
            if now() - since < row.personal_hours * HOUR_SECONDS:
                continue
            self._looked[row.id] = now()
            kinds = self._changed(row.id)
            if kinds:
                with self._database.write() as session:
                    jobs.create_personal(session, row.id, kinds)
                self._train_soon()

    def _changed(self, assistant_id: int) -> set[PersonalKind]:
        """The adapters that would learn from something else than their newest version did, or
        beside another shared version, or for another model."""
        found = set()
        for kind, adapters in self._kinds.items():
            with self._database.read() as session:
                material = personal_examples.read(session, assistant_id, kind, self._secret)
                newest = {(row.assistant_id, row.kind): row for row in versions.newest(session)}
            last = newest.get((assistant_id, kind))
            is_same = (
                last is not None
                and last.config.get("material") == material.digest
                and fits(adapters, last)
            )
            if not is_same and adapters.problem(material) is None:
                found.add(kind)
        return found
