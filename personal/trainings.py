"""Jobs of personal adapters, one adapter at a time, each in a process of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from personal import versions
from personal.in_service import ByKind, PersonalAdapters
from personal.tasks import Trained
from personal.training import Training, TrainingFailedError, TrainingStoppedError
from retrieval import jobs, personal_examples
from retrieval.personal_examples import PersonalMaterial
from storage.database import Database, may_pass
from storage.example_tables import PersonalKind
from storage.node_tables import ItemState, JobItem, JobKind

log = structlog.get_logger()

PROGRESS_SECONDS = 1.0
RETRY_SECONDS = 2.0


@dataclass(frozen=True, eq=False, slots=True)
class _Attempt:
    """A training with all that it depends on."""

    item_id: int
    assistant_id: int
    adapters: PersonalAdapters
    material: PersonalMaterial
    shared: str | None
    training: Training


class Trainings:
    """Works through the jobs until closed."""

    def __init__(
        self, database: Database, kinds: ByKind, secret: bytes, on_stored: Callable[[], None]
    ) -> None:
        """`on_stored` is called when there may be something new to serve."""
        self._database = database
        self._kinds = kinds
        self._secret = secret
        self._on_stored = on_stored
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._attempt: _Attempt | None = None
        self._thread = threading.Thread(target=self._run, name="personal-training", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Say that a job was added."""
        self._wake.set()

    def check(self) -> None:
        """End a training whose material was erased, or that nobody wants any more, at once.

        To be called after every deletion and change of a shared version.
        """
        attempt = self._attempt
        if attempt is None:
            return
        with self._database.read() as session:
            is_void = self._is_void(session, attempt)
        if is_void:
            attempt.training.stop()

    def close(self) -> None:
        """End the training at hand; it begins anew at the next start."""
        self._closing.set()
        self._wake.set()
        attempt = self._attempt
        if attempt is not None:
            attempt.training.stop()
        self._thread.join()

    def _run(self) -> None:
        last = 0
        while not self._closing.is_set():
            item: JobItem | None = None
            try:
                with self._database.write() as session:
                    # In turns: what is begun anew again and again must not keep others waiting.
                    item = jobs.claim(session, JobKind.PERSONAL, after=last)
                if item is None:
                    self._wake.wait()
                    self._wake.clear()
                else:
                    last = item.id
                    self._work(item)
            except Exception as error:
                log.exception("a personal adapter could not be trained")
                self._closing.wait(RETRY_SECONDS)
                if item is not None:
                    self._give_up(item.id, error)

    def _work(self, item: JobItem) -> None:
        assistant_id, adapters = item.job.assistant_id, self._kinds.get(PersonalKind(item.name))
        if adapters is None:
            self._fail(item.id, "no_training", "the generator is on another server")
            return
        with self._database.read() as session:
            material = personal_examples.read(session, assistant_id, adapters.kind, self._secret)
        problem = adapters.problem(material)
        if problem is not None:
            self._fail(item.id, "too_few_examples", problem)
            return
        task, shared = adapters.task(assistant_id, material)
        attempt = _Attempt(item.id, assistant_id, adapters, material, shared, Training(task))
        self._attempt = attempt
        try:
            self.check()
            if not self._closing.is_set():
                trained = attempt.training.run(_Reporter(self._database, item.id))
                self._store(attempt, trained)
        except TrainingStoppedError:
            self._begin_anew(item.id)
        except TrainingFailedError as error:
            self._fail(item.id, "training_failed", str(error))
        finally:
            self._attempt = None

    def _store(self, attempt: _Attempt, trained: Trained) -> None:
        # It may be a hash of all weights, for which no writer is to wait.
        model = attempt.adapters.model
        with self._database.write() as session:
            if self._is_void(session, attempt):
                _set_pending(session, attempt.item_id)
                return
            version = versions.add(
                session,
                attempt.assistant_id,
                attempt.adapters.kind,
                trained,
                attempt.material,
                shared=attempt.shared,
                model=model,
                is_better=attempt.adapters.is_better(trained),
            )
        # Whoever sees that the job is done finds the version in service.
        self._on_stored()
        with self._database.write() as session:
            # An erasure, or another shared version, found this item open and asked for no other.
            if self._is_void(session, attempt):
                _set_pending(session, attempt.item_id)
            else:
                versions.finish(session, attempt.item_id, version)

    def _is_void(self, session: Session, attempt: _Attempt) -> bool:
        item = session.get(JobItem, attempt.item_id)
        return (
            item is None
            or item.state is not ItemState.RUNNING
            or attempt.adapters.shared != attempt.shared
            or not personal_examples.is_there(session, attempt.assistant_id, attempt.material)
        )

    def _begin_anew(self, item_id: int) -> None:
        with self._database.write() as session:
            _set_pending(session, item_id)

    def _give_up(self, item_id: int, error: Exception) -> None:
        try:
            if may_pass(error):
                self._begin_anew(item_id)
            else:
                self._fail(item_id, "internal_error", "training failed; the log says why")
        except Exception:
            # The next start finds the item running and begins it anew.
            log.exception("a personal adapter's job could not be closed")

    def _fail(self, item_id: int, code: str, message: str) -> None:
        with self._database.write() as session:
            jobs.fail(session, item_id, code, message)


class _Reporter:
    """Writes progress to a job's item, not too often."""

    def __init__(self, database: Database, item_id: int) -> None:
        self._database = database
        self._item_id = item_id
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last < PROGRESS_SECONDS:
            return
        self._last = time.monotonic()
        with self._database.write() as session:
            item = session.get(JobItem, self._item_id)
            if item is not None:
                item.chunks, item.chunks_done = total, done


def _set_pending(session: Session, item_id: int) -> None:
    item = session.get(JobItem, item_id)
    if item is not None and item.state is ItemState.RUNNING:
        item.state, item.chunks_done = ItemState.PENDING, 0
