"""Promoted versions of shared adapters: fetched, and tried apart from the rounds."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from federation.adapter_spec import AdapterKind
from federation.participant.adoption import Adoption, Trial, VersionError
from federation.participant.coordinator_client import CoordinatorError
from federation.participant.generator_trial import GeneratorTrial
from federation.participant.plan_files import PlanFiles
from federation.participant.versions import VersionSource
from federation.plan import FederationPlan
from retrieval.examples import ExampleSource

log = structlog.get_logger()


class VersionTrials:
    """The trials of one membership. For one thread."""

    def __init__(self, adoption: Adoption, source: ExampleSource, files: PlanFiles) -> None:
        self._adoption = adoption
        self._source = source
        self._files = files
        self._generators: dict[str, GeneratorTrial] = {}
        self._thread = ThreadPoolExecutor(1, "trials")
        self._considering: Future[None] | None = None

    @property
    def are_running(self) -> bool:
        """Whether a process tries a version, and `attend` should soon be called again."""
        return bool(self._generators)

    def attend(self, plan: FederationPlan, versions: VersionSource, promoted: int) -> None:
        """Have a promoted version here, and try it if that is due; number 0 changes nothing."""
        if promoted == 0:
            return
        if not self._adoption.has(plan, promoted):
            self._files.fetch(plan)
            self._adoption.keep(plan, *versions.fetch(promoted))
        if not self._adoption.is_due(plan, promoted):
            self.end(plan)
        elif plan.adapter.kind is AdapterKind.RETRIEVER:
            self._consider_soon(plan, promoted, None)
        elif (result := self._generator(plan, promoted).result()) is not None:
            self.end(plan)
            self._consider_soon(plan, promoted, result)

    def end(self, plan: FederationPlan) -> None:
        """End the process that tries a version of this plan, if there is one."""
        trial = self._generators.pop(plan.hash, None)
        if trial is not None:
            trial.close()

    def close(self) -> None:
        """End all processes; begin no more trials."""
        for trial in self._generators.values():
            trial.close()
        self._generators.clear()
        self._thread.shutdown(cancel_futures=True)

    def _consider_soon(self, plan: FederationPlan, number: int, trial: Trial | None) -> None:
        """Apart from the rounds: how long it takes tells how many questions were held back."""
        if self._considering is None or self._considering.done():
            self._considering = self._thread.submit(self._consider, plan, number, trial)

    def _consider(self, plan: FederationPlan, number: int, trial: Trial | None) -> None:
        try:
            self._adoption.consider(plan, number, trial)
        except VersionError as error:
            log.warning("a shared version cannot be tried", number=number, reason=str(error))
        except Exception:
            log.exception("a shared version could not be tried", number=number)

    def _generator(self, plan: FederationPlan, promoted: int) -> GeneratorTrial:
        """The trial of this version, begun if it is not under way."""
        known = self._generators.get(plan.hash)
        if known is not None and known.number == promoted:
            return known
        self.end(plan)
        parameters = self._adoption.parameters(plan, promoted)
        task = self._files.task(plan)
        answers = self._source.held_back_answers()
        try:
            trial = GeneratorTrial(task, promoted, parameters, answers)
        except ValueError as error:
            raise CoordinatorError(str(error)) from error
        self._generators[plan.hash] = trial
        return trial
