"""Whether a shared version serves this node: tried on its own held-back questions, told nobody.

What is served changes nothing in training, which always starts from the plan's model.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.adapter_spec import AdapterKind, parameters_from_bytes
from federation.participant.base_models import BaseModels
from federation.participant.identity import FederationHome
from federation.plan import FederationPlan
from federation.rows import ffa_lora
from federation.versions import SignedVersion
from generation.adapter_files import Lora
from generation.ffa_lora import as_lora
from privacy.canonical import parse_canonical
from privacy.records import from_json
from retrieval.embedding import Embedder
from retrieval.examples import ExampleSource, HeldBack
from retrieval.library import Library
from retrieval.query_map import QueryMap, basis_from_bytes
from storage.database import Database
from storage.declarative import now
from storage.membership_tables import KnownPlan, SharedVersion, VersionState

if TYPE_CHECKING:
    from federation.participant.shared_generator import SharedGenerator

log = structlog.get_logger()

CUT = 10
"""Ranks beyond it count as not found (MRR@10)."""

MOST_HELD_BACK = 500


class VersionError(ValueError):
    """There is no such version, or it cannot be served; the message says why."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial on held-back questions said; without and with the version.

    Attributes:
        examples: how many questions.
        before, after: MRR of a retriever, mean loss of a generator; None if nobody can tell.
            Without it are both no shared adapter and the one that is served: the better counts.
    """

    examples: int
    before: float | None
    after: float | None

    def state(self, kind: AdapterKind) -> VersionState:
        """A version is served only if it does not hurt."""
        if self.before is None or self.after is None:
            return VersionState.UNTESTED
        gain = self.after - self.before
        is_harmless = gain >= 0 if kind is AdapterKind.RETRIEVER else gain <= 0
        return VersionState.SERVED if is_harmless else VersionState.HARMFUL


@dataclass(frozen=True, eq=False, slots=True)
class ServedMap:
    """The shared query map that is served; `name` is the version's plan and number."""

    name: str
    query_map: QueryMap


@dataclass(frozen=True, eq=False, slots=True)
class ServedLora:
    """The shared generator adapter that is served: `adapter` is what the engine calls it."""

    name: str
    adapter: str
    lora: Lora


class Adoption:
    """Tries, serves and withdraws versions. Safe in any thread without a running event loop."""

    def __init__(
        self,
        database: Database,
        home: FederationHome,
        source: ExampleSource,
        models: BaseModels,
        embedder: Embedder,
        library: Library,
        generator: SharedGenerator | None,
        on_change: Callable[[AdapterKind], None] = lambda kind: None,
    ) -> None:
        """`generator` is None where it is on another server and takes no adapters.

        `on_change` is called after what is served of a kind has changed; it must not call back.
        """
        self._database = database
        self._home = home
        self._source = source
        self._models = models
        self._embedder = embedder
        self._library = library
        self._generator = generator
        self._on_change = on_change
        self._turn = threading.Lock()
        self.shared_map: ServedMap | None = None
        self.shared_lora: ServedLora | None = None

    def resume(self) -> None:
        """Serve again what was served when the node stopped."""
        with self._database.read() as session:
            served = session.scalars(
                select(SharedVersion).where(SharedVersion.state == VersionState.SERVED)
            ).all()
        for row in served:
            try:
                self._switch(row.plan_hash, row.number)
            except VersionError as error:
                # The owner has set another model since.
                log.warning("a shared version is not served", reason=str(error))

    def has(self, plan: FederationPlan, number: int) -> bool:
        """Whether a version is kept here, whatever became of it."""
        with self._database.read() as session:
            return session.get(SharedVersion, (plan.hash, number)) is not None

    def keep(self, plan: FederationPlan, signed: SignedVersion, parameters: bytes) -> None:
        """Store a version whose signature and hashes were checked; it is not served yet.

        Every promoted version is fetched once and kept: fetching one again, or not at all, would
        tell the coordinator which versions are served, and so how they did on private questions.
        """
        with self._database.write() as session:
            session.add(
                SharedVersion(
                    plan_hash=plan.hash,
                    number=signed.record.number,
                    record=signed.to_bytes(),
                    parameters=parameters,
                    state=VersionState.RETIRED,
                )
            )

    def is_due(self, plan: FederationPlan, number: int) -> bool:
        """Whether a version that is kept should be tried: not what the owner has settled."""
        with self._database.read() as session:
            if self._pinned(session, plan.adapter.kind):
                return False
            row = session.get(SharedVersion, (plan.hash, number))
        return row is not None and row.state is VersionState.RETIRED

    def parameters(self, plan: FederationPlan, number: int) -> bytes:
        """Of a version that is kept. Raises VersionError if it is not."""
        with self._database.read() as session:
            return self._row(session, plan.hash, number).parameters

    def consider(
        self, plan: FederationPlan, number: int, trial: Trial | None = None
    ) -> VersionState:
        """Try a version that is kept, and serve it unless it hurts.

        Where nobody can tell, as without held-back questions, it is left for the owner to pin.

        Args:
            trial: of a generator, which takes minutes in a process of its own
                (`generator_trial`); a query map is tried here.

        Raises:
            VersionError: the node does not have it, or it does not fit its models.
        """
        with self._turn:
            return self._consider(plan, number, trial)

    def _consider(self, plan: FederationPlan, number: int, trial: Trial | None) -> VersionState:
        self._check_model(plan)
        parameters = self.parameters(plan, number)
        if trial is None:
            trial = self._try(plan, parameters)
        state = trial.state(plan.adapter.kind)
        with self._database.write() as session:
            if state is VersionState.SERVED:
                self._retire(session, plan.adapter.kind)
            row = self._row(session, plan.hash, number)
            row.state = state
            row.examples, row.before, row.after = trial.examples, trial.before, trial.after
            row.tried_at = now()
        if state is VersionState.SERVED:
            self._serve(plan, number, parameters)
        return state

    def _try(self, plan: FederationPlan, parameters: bytes) -> Trial:
        if plan.adapter.kind is not AdapterKind.RETRIEVER:
            return Trial(0, None, None)
        questions = self._source.held_back()[:MOST_HELD_BACK]
        query_map = self._query_map(plan, parameters)
        if not questions:
            return Trial(0, None, None)
        before = self._quality(questions, None)
        if self.shared_map is not None:
            before = max(before, self._quality(questions, self.shared_map.query_map))
        return Trial(len(questions), before, self._quality(questions, query_map))

    def served_by(self, plan: FederationPlan) -> bytes | None:
        """The parameters that are served now, if they are of the plan's adapter: of this plan, or
        of another with the same base model, modules and basis."""
        with self._database.read() as session:
            for row in self._served(session, plan.adapter.kind):
                if self._plan(session, row.plan_hash).adapter == plan.adapter:
                    return row.parameters
        return None

    def retract(self, plan: FederationPlan, promoted: int) -> None:
        """Stop serving a version that is newer than the promoted one, which the coordinator has
        rolled back, unless the owner has pinned it."""
        with self._turn:
            with self._database.read() as session:
                rolled_back = [
                    row.number
                    for row in self._served(session, plan.adapter.kind)
                    if row.plan_hash == plan.hash and row.number > promoted and not row.pinned
                ]
            for number in rolled_back:
                with self._database.write() as session:
                    self._row(session, plan.hash, number).state = VersionState.RETIRED
                self._withdraw(plan.adapter.kind)

    def pin(self, plan_hash: str, number: int) -> None:
        """Serve this version whatever the trial said, until it is refused.

        Raises:
            VersionError: the node does not have it, or it does not fit its models.
        """
        with self._turn:
            self._switch(plan_hash, number)
            self._mark_pinned(plan_hash, number)

    def _mark_pinned(self, plan_hash: str, number: int) -> None:
        with self._database.write() as session:
            row = self._row(session, plan_hash, number)
            self._retire(session, self._plan(session, plan_hash).adapter.kind)
            row.state, row.pinned = VersionState.SERVED, True

    def refuse(self, plan_hash: str, number: int) -> None:
        """Do not serve this version, now or later.

        Raises:
            VersionError: the node does not have it.
        """
        with self._turn, self._database.write() as session:
            row = self._row(session, plan_hash, number)
            was_served = row.state is VersionState.SERVED
            row.state, row.pinned = VersionState.REFUSED, False
            kind = self._plan(session, plan_hash).adapter.kind
        if was_served:
            self._withdraw(kind)

    def _withdraw(self, kind: AdapterKind) -> None:
        if kind is AdapterKind.RETRIEVER:
            self._library.searcher.set_query_map(None)
            self.shared_map = None
        elif self._generator is not None:
            self._generator.withdraw()
            self.shared_lora = None
        self._on_change(kind)

    def _switch(self, plan_hash: str, number: int) -> None:
        with self._database.read() as session:
            parameters = self._row(session, plan_hash, number).parameters
            plan = self._plan(session, plan_hash)
        self._check_model(plan)
        self._serve(plan, number, parameters)

    def _serve(self, plan: FederationPlan, number: int, parameters: bytes) -> None:
        name = f"{plan.hash}/{number}"
        if plan.adapter.kind is AdapterKind.RETRIEVER:
            query_map = self._query_map(plan, parameters)
            self._library.searcher.set_query_map(query_map)
            self.shared_map = ServedMap(name, query_map)
        else:
            self.shared_lora = self._serve_lora(plan, number, parameters, name)
        self._on_change(plan.adapter.kind)

    def _serve_lora(
        self, plan: FederationPlan, number: int, parameters: bytes, name: str
    ) -> ServedLora:
        if self._generator is None:
            raise VersionError("the generator is on another server and takes no adapters")
        try:
            basis = self._basis(plan)
            vector = parameters_from_bytes(parameters, plan.adapter)
            adapter = f"shared-{plan.hash[:16]}-{number}"
            lora = as_lora(ffa_lora(plan.adapter, basis), basis, vector)
            self._generator.serve(adapter, lora)
        except (ValueError, OSError) as error:
            raise VersionError(f"the version is no adapter for this generator: {error}") from error
        return ServedLora(name, adapter, lora)

    def _check_model(self, plan: FederationPlan) -> None:
        model = self._models.get(plan.adapter.kind)
        if model is None or model.identity != plan.adapter.base_model:
            raise VersionError(f"the plan is for {plan.adapter.base_model}, not for this node")

    def _basis(self, plan: FederationPlan) -> bytes:
        return (self._home.files / plan.adapter.basis_hash).read_bytes()

    def _query_map(self, plan: FederationPlan, parameters: bytes) -> QueryMap:
        """Raises VersionError if the parameters and the basis are no query map for this node."""
        try:
            basis = basis_from_bytes(self._basis(plan))
            vector = parameters_from_bytes(parameters, plan.adapter)
            (weights,) = plan.adapter.to_matrices(vector).values()
            return QueryMap(basis, weights)
        except (ValueError, OSError) as error:
            raise VersionError(f"the version is no query map for this node: {error}") from error

    def _quality(self, questions: Sequence[HeldBack], query_map: QueryMap | None) -> float:
        """Mean reciprocal rank of the first right document; at least one question."""
        vectors = self._embedder.questions([one.question for one in questions])
        if query_map is not None:
            vectors = query_map.apply(vectors)
        places: dict[int, list[int]] = defaultdict(list)
        for place, one in enumerate(questions):
            places[one.assistant_id].append(place)
        ranks = []
        for assistant_id, own in places.items():
            found = self._library.nearest(assistant_id, vectors[own], CUT)
            for place, documents in zip(own, found, strict=True):
                gold = questions[place].document_ids
                hits = (1 / rank for rank, name in enumerate(documents, 1) if name in gold)
                ranks.append(next(hits, 0.0))
        return float(np.mean(ranks))

    def _pinned(self, session: Session, kind: AdapterKind) -> bool:
        rows = session.scalars(select(SharedVersion).where(SharedVersion.pinned))
        return any(self._plan(session, row.plan_hash).adapter.kind is kind for row in rows)

    def _retire(self, session: Session, kind: AdapterKind) -> None:
        """One version of a kind is served at a time."""
        for row in self._served(session, kind):
            row.state, row.pinned = VersionState.RETIRED, False

    def _served(self, session: Session, kind: AdapterKind) -> list[SharedVersion]:
        served = select(SharedVersion).where(SharedVersion.state == VersionState.SERVED)
        return [
            row
            for row in session.scalars(served)
            if self._plan(session, row.plan_hash).adapter.kind is kind
        ]

    def _row(self, session: Session, plan_hash: str, number: int) -> SharedVersion:
        row = session.get(SharedVersion, (plan_hash, number))
        if row is None:
            raise VersionError(f"the node does not have version {number} of this federation")
        return row

    def _plan(self, session: Session, plan_hash: str) -> FederationPlan:
        row = session.get(KnownPlan, plan_hash)
        if row is None:
            raise VersionError("the node does not know this plan")
        return read_known_plan(row)


def read_known_plan(row: KnownPlan) -> FederationPlan:
    """The plan of a row; its signature was verified before it was stored."""
    value = parse_canonical(row.plan)
    if not isinstance(value, dict):
        raise VersionError("the stored plan is damaged")
    return from_json(FederationPlan, value["record"])
