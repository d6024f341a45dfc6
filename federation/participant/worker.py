"""One membership's thread: it recovers, looks around, and answers what is waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import select

from federation.invitation import Stage
from federation.participant.adoption import Adoption
from federation.participant.base_models import BaseModels
from federation.participant.consent import Consent
from federation.participant.coordinator_client import (
    CoordinatorClient,
    CoordinatorError,
    Listing,
    RefusedError,
    UnreachableError,
    Work,
)
from federation.participant.identity import FederationHome, load_identity
from federation.participant.plan_files import PlanFiles
from federation.participant.policy import ConsentPolicy, refusals
from federation.participant.recovery import recover
from federation.participant.rounds import LeftError, NotNowError, Rounds, Standing
from federation.participant.trainer import Trainer
from federation.participant.version_trials import VersionTrials
from federation.participant.versions import VersionSource
from federation.plan import FederationPlan
from federation.roster import Roster
from federation.signed import Signed
from privacy.signing import Domain
from retrieval.examples import ExampleSource
from storage.database import Database
from storage.membership_tables import FormerIdentity, KnownPlan, Membership, MembershipState

log = structlog.get_logger()

POLL_SECONDS = 25.0
REFRESH_SECONDS = 25.0
SETTLE_SECONDS = 0.02
"""For each member of the roster, from one look at it to the next one that a change asks for:
however many they are, a coordinator that changes all the time is asked fifty times a second."""
PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 3.0
"""Between two questions for work while what there is cannot or must not be done."""
FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 30.0
RUNNING = "running"
OVER = frozenset({"stopped", "finished"})
"""States of a federation, as listed."""
OPEN_STATES = (MembershipState.PENDING, MembershipState.ACTIVE)


@dataclass(frozen=True, slots=True)
class Tools:
    """What every membership of a node shares."""

    database: Database
    home: FederationHome
    consent: Consent
    source: ExampleSource
    adoption: Adoption
    models: BaseModels

    def refusals(self, plan: FederationPlan, policy: ConsentPolicy) -> tuple[str, ...]:
        """Why this node takes no part in a plan under a policy: a sentence for each reason."""
        unfit = self.models.refusal(plan.adapter)
        return refusals(plan, policy) + (() if unfit is None else (unfit,))


class _Federation:
    """A federation that the node knows the plan of."""

    def __init__(self, plan: FederationPlan, versions: VersionSource) -> None:
        self.plan = plan
        self.versions = versions
        self.refusals: tuple[str, ...] = ()
        self.trainer: Trainer | None = None

    def close(self) -> None:
        """End its training process."""
        if self.trainer is not None:
            self.trainer.close()
        self.trainer = None


class MembershipWorker:
    """Drives one membership until `close`; survives every failure of the coordinator."""

    def __init__(
        self, tools: Tools, membership: Membership, all_recovered: Callable[[], bool]
    ) -> None:
        """`all_recovered`: whether every coordinator has shown its evidence since the start."""
        self._tools = tools
        self._all_recovered = all_recovered
        self._id = membership.id
        self._closing = threading.Event()
        self._polling = False
        identity = load_identity(tools.home, membership.identity)
        odometer = tools.consent.open_odometer()
        self._client = CoordinatorClient(
            membership.url, membership.coordinator, identity, self._closing
        )
        self._odometer = odometer
        self._rounds = Rounds(
            self._client, identity, tools.database, tools.home, odometer, tools.source,
            lambda plan: tools.refusals(plan, tools.consent.policy),
        )  # fmt: skip
        self._federations: dict[str, _Federation] = {}
        self._files = PlanFiles(self._client, tools.home, tools.models)
        self._trials = VersionTrials(tools.adoption, tools.source, self._files)
        self._standing: Standing | None = None
        self._refreshed = float("-inf")
        # The marker of what the coordinator lists, as last told and as of the last look.
        self._listing = self._looked_at = ""
        self._pause = PAUSE_SECONDS
        self.recovered = False
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="federation", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop at a safe point. A thread that only waits for an answer is left to itself."""
        self._closing.set()
        while self._thread.is_alive() and not self._polling:
            self._thread.join(0.05)
        for federation in self._federations.values():
            federation.close()
        self._rounds.close()
        self._trials.close()

    def forget(self) -> None:
        """Have no process keep texts that were erased; the rows that are begun are finished
        before."""
        self._trials.forget()
        for federation in list(self._federations.values()):
            if federation.trainer is not None:
                federation.trainer.forget()

    def refresh(self) -> None:
        """Have the policy and the roster looked at again soon."""
        self._refreshed = float("-inf")

    def _run(self) -> None:
        delay = FIRST_RETRY_SECONDS
        while not self._closing.is_set():
            try:
                self._step()
                self.problem = None
                delay = FIRST_RETRY_SECONDS
                continue
            except UnreachableError as error:
                self.problem = str(error)
            except RefusedError as error:
                self.problem = str(error)
                if error.code == "revoked" and self.recovered:
                    self._set_state(MembershipState.REVOKED)
                    return
                if error.code == "revoked":
                    # What it has spent there may be unknown here, as after a restore.
                    self.problem = f"{error}, and has not shown what it spent: leave to go on"
                if error.code == "not_approved":
                    # It has said that nothing of this identity can ever have been paid for.
                    self.recovered = self._state() is MembershipState.PENDING
            except CoordinatorError as error:
                self.problem = str(error)
                log.warning("a coordinator cannot be believed", reason=str(error))
            except Exception as error:
                self.problem = f"{type(error).__name__}: {error}"
                log.exception("the node's part in a federation failed and will be tried again")
            self._closing.wait(delay)
            delay = min(2 * delay, LONGEST_RETRY_SECONDS)

    def _step(self) -> None:
        if self._state() is MembershipState.PENDING or not self.recovered:
            self._recover()
        if time.monotonic() - self._refreshed >= self._between_looks():
            self._look()
        works = self._poll()
        if self._closing.is_set():
            return
        progress = False
        for work in works:
            progress = self._handle(work) or progress
        if progress or not works:
            self._pause = PAUSE_SECONDS
        else:
            self._closing.wait(min(self._pause, self._rounds.seconds_until_due()))
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def _poll(self) -> list[Work]:
        # A public number: what is left until the next look would tell how busy this node is.
        wait = min(POLL_SECONDS, self._between_looks())
        self._polling = True
        try:
            found = self._client.work(wait, self._listing)
        finally:
            self._polling = False
        self._listing = found.listing
        return found.works

    def _between_looks(self) -> float:
        """Seconds; fewer once the coordinator lists something else."""
        if self._standing is None or self._listing == self._looked_at:
            return REFRESH_SECONDS
        return min(REFRESH_SECONDS, SETTLE_SECONDS * len(self._standing.members))

    def _look(self) -> None:
        # Noted before: what is asked for meanwhile is looked at again.
        self._refreshed = time.monotonic()
        try:
            self._refresh()
        except BaseException:
            self.refresh()
            raise
        self._looked_at = self._listing

    def _recover(self) -> None:
        """Bring the odometer up to what the coordinator can prove. Before anything else."""
        with self._tools.database.read() as session:
            membership = session.get_one(Membership, self._id)
            former = select(FormerIdentity.identity).where(FormerIdentity.membership_id == self._id)
            identities = [membership.identity, *session.scalars(former)]
        evidence = self._client.evidence()
        proved = recover(
            self._odometer, evidence, identities, self._client.coordinator, self._plan_of
        )
        self._rounds.abandon_before_masked(proved)
        self.recovered = True
        self._set_state(MembershipState.ACTIVE)

    def _plan_of(self, federation: str) -> FederationPlan:
        return self._client.plan(federation).record

    def _refresh(self) -> None:
        roster = self._read_roster()
        self._standing = Standing(
            self._id, roster.population, roster.hash, frozenset(m.identity for m in roster.members)
        )
        for listing in self._client.federations():
            federation = self._federations.get(listing.name)
            if federation is None or federation.plan.hash != listing.plan_hash:
                replaced, federation = federation, self._meet(listing, roster)
                self._federations[listing.name] = federation
                if replaced is not None:
                    replaced.close()
                    self._trials.end(replaced.plan)
            federation.refusals = self._tools.refusals(federation.plan, self._tools.consent.policy)
            self._note(federation)
            if listing.state in OVER:
                federation.close()
            if not federation.refusals:
                if listing.state == RUNNING and federation.trainer is None:
                    federation.trainer = Trainer(self._files.task(federation.plan))
                    federation.trainer.start()
                self._trials.attend(federation.plan, federation.versions, listing.promoted)

    def _read_roster(self) -> Roster:
        """The roster, pinned: the population stays, the version never goes back."""
        roster, data = self._client.roster()
        with self._tools.database.write() as session:
            membership = session.get_one(Membership, self._id)
            if membership.roster is not None:
                old = Signed.from_bytes(
                    membership.roster, Roster, Domain.ROSTER, self._client.coordinator
                ).record
                if roster.version < old.version or roster.population != old.population:
                    raise CoordinatorError("the roster is older than one that was seen before")
                if roster.version == old.version and roster != old:
                    raise CoordinatorError("there are two rosters of one version")
            membership.population = roster.population
            membership.roster = data
        return roster

    def _meet(self, listing: Listing, roster: Roster) -> _Federation:
        signed = self._client.plan(listing.name)
        plan = signed.record
        if (plan.federation, plan.hash) != (listing.name, listing.plan_hash):
            raise CoordinatorError(f"the plan of {listing.name} is not the one that is listed")
        if plan.population != roster.population:
            raise CoordinatorError(f"the plan of {listing.name} is for another population")
        with self._tools.database.write() as session:
            known = session.get(KnownPlan, plan.hash)
            if known is not None and known.membership_id != self._id:
                # With two places in a round its subjects would be in twice, for one debit.
                if session.get_one(Membership, known.membership_id).state in OPEN_STATES:
                    raise CoordinatorError(
                        f"the node follows the plan of {plan.federation} by another membership"
                    )
                known.membership_id = self._id
            elif known is None:
                session.add(
                    KnownPlan(
                        plan_hash=plan.hash,
                        membership_id=self._id,
                        federation=plan.federation,
                        plan=signed.to_bytes(),
                    )
                )
        return _Federation(plan, VersionSource(self._client, plan))

    def _note(self, federation: _Federation) -> None:
        with self._tools.database.write() as session:
            row = session.get_one(KnownPlan, federation.plan.hash)
            row.refusals = "\n".join(federation.refusals)

    def _handle(self, work: Work) -> bool:
        """Whether something was sent."""
        standing, federation = self._standing, self._federations.get(work.federation)
        if standing is None or federation is None:
            self.refresh()
            return False
        try:
            if work.stage is Stage.ENLISTING:
                if federation.trainer is None or not self._may_enlist(federation):
                    return False
                self._rounds.enlist(
                    work, federation.plan, standing, federation.versions, federation.trainer
                )
            else:
                self._rounds.answer(
                    work, federation.plan, standing, federation.versions, federation.trainer
                )
        except NotNowError:
            if work.stage is Stage.ENLISTING:
                self.refresh()
            return False
        except LeftError as error:
            log.debug("no part in a round", round_id=work.round_id, reason=str(error))
            return False
        except RefusedError as error:
            log.info("a message was refused", round_id=work.round_id, reason=str(error))
            return False
        return True

    def _may_enlist(self, federation: _Federation) -> bool:
        with self._tools.database.read() as session:
            paused = session.get_one(Membership, self._id).paused
        return not (paused or federation.refusals) and self._all_recovered()

    def _state(self) -> MembershipState:
        with self._tools.database.read() as session:
            return session.get_one(Membership, self._id).state

    def _set_state(self, state: MembershipState) -> None:
        with self._tools.database.write() as session:
            membership = session.get_one(Membership, self._id)
            if membership.state is not MembershipState.LEFT:
                membership.state = state
