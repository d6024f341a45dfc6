"""Promoted versions of shared adapters: fetched, and tried apart from the rounds."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import structlog

from federation.adapter_spec import AdapterKind
from federation.participant.adoption import Adoption, VersionError
from federation.participant.generator_trial import GeneratorTrial
from federation.participant.plan_files import PlanFiles
from federation.participant.trainer import TrainingTask
from federation.participant.versions import VersionSource
from federation.plan import FederationPlan
from retrieval.examples import ExampleSource

log = structlog.get_logger()


class VersionTrials:
    """The trials of one membership. For one thread, but for `forget`.

    All that takes the longer the more questions were held back happens in another thread, so that
    the times of the node's requests do not tell.
    """

    def __init__(self, adoption: Adoption, source: ExampleSource, files: PlanFiles) -> None:
        self._adoption = adoption
        self._source = source
        self._files = files
        self._tasks: dict[str, TrainingTask] = {}
        self._attending: dict[str, Future[None]] = {}
        self._thread = ThreadPoolExecutor(1, "trials")
        # Of that thread.
        self._generators: dict[str, GeneratorTrial] = {}

    def attend(self, plan: FederationPlan, versions: VersionSource, promoted: int) -> None:
        """Have a promoted version here, have it tried if that is due, and have newer ones of this
        plan withdrawn: they were rolled back. Number 0 is no version to try."""
        if promoted > 0 and not self._adoption.has(plan, promoted):
            self._files.fetch(plan)
            self._adoption.keep(plan, *versions.fetch(promoted))
        is_generator = plan.adapter.kind is AdapterKind.GENERATOR
        if promoted > 0 and is_generator and plan.hash not in self._tasks:
            self._tasks[plan.hash] = self._files.task(plan)
        before = self._attending.get(plan.hash)
        if before is None or before.done():
            task = self._tasks.get(plan.hash)
            self._attending[plan.hash] = self._thread.submit(self._attend, plan, promoted, task)

    def end(self, plan: FederationPlan) -> None:
        """End the process that tries a version of this plan, if there is one."""
        self._thread.submit(self._end, plan.hash)

    def forget(self) -> None:
        """End every process that holds texts; what is not tried is begun again. In any thread."""
        with suppress(RuntimeError):  # it is closed, and holds none
            self._thread.submit(self._end_all)

    def close(self) -> None:
        """End all processes; begin no more trials."""
        self._thread.shutdown(cancel_futures=True)
        self._end_all()

    def _attend(self, plan: FederationPlan, promoted: int, task: TrainingTask | None) -> None:
        try:
            self._adoption.retract(plan, promoted)
            if promoted == 0 or not self._adoption.is_due(plan, promoted):
                self._end(plan.hash)
            elif task is None:
                self._adoption.consider(plan, promoted)
            elif (result := self._generator(plan, promoted, task).result()) is not None:
                self._end(plan.hash)
                self._adoption.consider(plan, promoted, result)
        except VersionError as error:
            log.warning("a shared version cannot be tried", number=promoted, reason=str(error))
        except Exception:
            log.exception("a shared version could not be tried", number=promoted)

    def _generator(self, plan: FederationPlan, promoted: int, task: TrainingTask) -> GeneratorTrial:
        """The trial of this version, begun if it is not under way."""
        known = self._generators.get(plan.hash)
        if known is not None and known.number == promoted:
            return known
        self._end(plan.hash)
        parameters = self._adoption.parameters(plan, promoted)
        served = self._adoption.served_by(plan)
        trial = GeneratorTrial(task, promoted, parameters, served, self._source.held_back_answers())
        self._generators[plan.hash] = trial
        return trial

    def _end(self, plan_hash: str) -> None:
        trial = self._generators.pop(plan_hash, None)
        if trial is not None:
            trial.close()

    def _end_all(self) -> None:
        for plan_hash in list(self._generators):
            self._end(plan_hash)
