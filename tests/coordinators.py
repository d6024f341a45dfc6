"""Coordinators opened and served in a test's own process, on SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
from sqlalchemy import select, update

from api.coordinator.app import create_app
from api.coordinator.coordinator import Coordinator, create
from benchmarks.participants import Participant, Vector
from federation.adapter_spec import (
    AdapterKind,
    AdapterSpec,
    Block,
    blob_hash,
    parameters_hash,
    parameters_to_bytes,
)
from federation.coordinator import driver, enrolment, federations, populations
from federation.coordinator.authority import Authority
from federation.invitation import Stage
from federation.plan import FORMAT, FederationPlan, Optimiser, OptimiserName, Timing
from privacy.budget import Budget
from privacy.encoding import encode
from privacy.ledger_records import RoundFacts, SealedRecord, ThreatModel, unseal
from privacy.limits import RenyiFilter
from privacy.plan import Mode, PrivacyPlan
from retrieval.training_terms import MapTerms
from storage.coordinator_settings import CoordinatorSettings
from storage.coordinator_tables import Federation, Round
from storage.coordinator_tables import Participant as ParticipantRow
from tests.loopback import served_on_loopback

BASIS = b"a basis"
PASSAGES = b'{"text": "a public passage"}\n'
POPULATION = "clinics"
FEDERATION = "ward"


@contextmanager
def coordinator(home: Path, database_url: str | None = None) -> Iterator[Coordinator]:
    """A fresh coordinator in `home`."""
    settings = CoordinatorSettings(home=home, database_url=database_url)
    create(settings)
    opened = Coordinator(settings)
    try:
        yield opened
    finally:
        opened.close()


def serving(opened: Coordinator, *, drive: bool = False) -> AbstractContextManager[str]:
    """Its application on loopback, by a real server in a thread; the URL."""
    return served_on_loopback(create_app(opened, drive=drive))


def privacy_plan(**changes: Any) -> PrivacyPlan:
    """Five nodes, of whom three have to survive, and 64 parameters."""
    plan = PrivacyPlan(
        mode=Mode.CLIENT,
        dimension=64,
        clip_norm=1.0,
        grid=1 / 800,
        noise_multiplier=2.0,
        cohort=5,
        min_survivors=3,
        colluders=0,
        rounds=3,
        max_participations=3,
        delta=1e-5,
    )
    return replace(plan, **changes)


def initial_parameters(dimension: int = 64) -> bytes:
    return parameters_to_bytes(np.linspace(-1, 1, dimension, dtype=np.float32))


def plan_for(identity: str, privacy: PrivacyPlan | None = None, **changes: Any) -> FederationPlan:
    """A plan of the coordinator with this public key, whose stages end when all have answered."""
    privacy = privacy or privacy_plan()
    spec = AdapterSpec(
        kind=AdapterKind.RETRIEVER,
        base_model="a model",
        rank=4,
        scale=1.0,
        basis_hash=blob_hash(BASIS),
        blocks=(Block("w", 4, privacy.dimension // 4),),
    )
    plan = FederationPlan(
        format=FORMAT,
        population=POPULATION,
        federation=FEDERATION,
        coordinator=identity,
        adapter=spec,
        privacy=privacy,
        threat_model=ThreatModel.HONEST_BUT_CURIOUS,
        timing=Timing(600.0, 600.0, 0.0, 600.0),
        optimiser=Optimiser(OptimiserName.FEDADAM, learning_rate=0.1, beta1=0.9),
        map_terms=MapTerms(),
        generator_terms=None,
        public_hash=blob_hash(PASSAGES),
        initial_hash=parameters_hash(initial_parameters(privacy.dimension)),
    )
    return replace(plan, **changes)


def limit_for(plan: FederationPlan, epsilon: float = 50.0) -> RenyiFilter:
    return RenyiFilter.for_run(plan.run, epsilon, plan.privacy.delta)


def noisy_vector(plan: FederationPlan) -> Vector:
    """An honest contribution: a random update, encoded with its share of the noise."""
    row = np.random.default_rng().normal(size=plan.privacy.dimension)
    return encode([(b"row", row)], plan.privacy)


@dataclass
class Site:
    """A served coordinator with its participants; rounds move when a test says so."""

    coordinator: Coordinator
    url: str
    participants: list[Participant]

    @property
    def authority(self) -> Authority:
        return self.coordinator.authority

    def budget(self) -> Budget:
        with self.authority.database.read() as session:
            return populations.budget(session, POPULATION)

    def ledger(self) -> list[SealedRecord]:
        """Every record of the ledger."""
        with self.authority.database.read() as session:
            return [unseal(line) for line in populations.lines(session, POPULATION)]

    def last_facts(self) -> RoundFacts:
        """What the ledger says about the round that ended last."""
        record = self.ledger()[-1].record.round
        assert record is not None
        return record.facts

    def turn(self) -> None:
        """Let the coordinator do all that is due."""
        while driver.turn(self.authority):
            pass

    def round(self) -> Round:
        """The newest round."""
        with self.authority.database.read() as session:
            return session.scalars(select(Round).order_by(Round.number.desc()).limit(1)).one()

    def is_running(self) -> bool:
        """Whether a round is not over."""
        with self.authority.database.read() as session:
            running = select(Round.id).where(Round.ended_at.is_(None))
            return session.scalar(running) is not None

    def expire(self) -> None:
        """Let the deadline of the newest round pass, and what follows happen."""
        with self.authority.database.write() as session:
            session.execute(update(Round).where(Round.id == self.round_id).values(deadline=0.0))
        self.turn()

    @property
    def round_id(self) -> str:
        return self.round().id

    def open_round(self) -> str:
        """End the round there is, if any, and announce the next one, whenever it is due."""
        if self.is_running():
            self.expire()
        with self.authority.database.write() as session:
            session.execute(update(Federation).values(next_round_at=0.0))
        self.turn()
        assert self.round().stage == Stage.ENLISTING
        return self.round_id

    def play(
        self,
        until: Stage | None = None,
        drops: Mapping[Stage, Sequence[Participant]] = MappingProxyType({}),
    ) -> Round:
        """Everybody answers, stage by stage, up to before `until`; the round as it is then.

        Who is named in `drops` answers nothing from that stage on.
        """
        stages = [stage for stage in Stage if not stage.is_over]
        gone: list[Participant] = []
        for stage in stages[stages.index(Stage(self.round().stage)) :]:
            if stage is until:
                break
            gone += drops.get(stage, ())
            for participant in self.participants:
                if participant not in gone:
                    participant.answer_all()
            self.turn()
            if self.round().stage == stage:
                self.expire()
            if Stage(self.round().stage).is_over:
                break
        return self.round()


@contextmanager
def site(
    home: Path,
    database_url: str | None = None,
    *,
    count: int = 5,
    plan: Callable[[str], FederationPlan] = plan_for,
    epsilon: float = 50.0,
) -> Iterator[Site]:
    """A served coordinator with a running federation of approved participants."""
    with ExitStack() as stack:
        opened = stack.enter_context(coordinator(home, database_url))
        chosen = plan(opened.identity)
        populations.create(opened.authority, POPULATION, limit_for(chosen, epsilon))
        federations.create(
            opened.authority,
            chosen,
            [BASIS, PASSAGES],
            initial_parameters(chosen.privacy.dimension),
        )
        federations.start(opened.authority, FEDERATION)
        url = stack.enter_context(serving(opened))
        members = []
        for number in range(count):
            http = stack.enter_context(httpx.Client(base_url=url, timeout=60))
            members.append(Participant(http, opened.identity, noisy_vector))
            admit(opened.authority, members[-1], f"node {number}")
        yield Site(opened, url, members)


def admit(authority: Authority, participant: Participant, name: str) -> int:
    """Enrol, approve and open a session; the participant's id."""
    token = enrolment.issue_token(authority, POPULATION)
    assert participant.enrol(token, name).status_code == 201
    with authority.database.read() as session:
        query = select(ParticipantRow.id).where(ParticipantRow.identity == participant.identity)
        number = session.scalars(query).one()
    enrolment.approve(authority, number)
    participant.open_session()
    return number


@contextmanager
def guests(place: Site, count: int) -> Iterator[list[int]]:
    """More participants for a while, at the end of the list; their ids."""
    with ExitStack() as stack:
        numbers = []
        for _ in range(count):
            http = stack.enter_context(httpx.Client(base_url=place.url, timeout=60))
            guest = Participant(http, place.coordinator.identity, noisy_vector)
            numbers.append(admit(place.authority, guest, f"guest {guest.identity[:8]}"))
            place.participants.append(guest)
        try:
            yield numbers
        finally:
            del place.participants[-count:]
            for number in numbers:
                enrolment.revoke(place.authority, number)
