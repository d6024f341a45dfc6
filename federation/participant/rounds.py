"""A node's side of its rounds: each message made once, stored before it leaves, and sent again.

Nothing here waits: the service asks what may be sent now, and hands it over. After a crash the same
work is asked for again, and the stored states give the same bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from sqlalchemy import select

from federation.invitation import Announcement, Stage, round_config
from federation.messages import every_receipt, newest_receipts
from federation.odometer_file import OdometerFile
from federation.participant.coordinator_client import (
    CoordinatorClient,
    CoordinatorError,
    RefusedError,
    Work,
)
from federation.participant.identity import FederationHome
from federation.participant.round_record import RoundRecord
from federation.participant.trainer import Examples, Trainer
from federation.participant.versions import VersionSource
from federation.plan import FederationPlan
from federation.rows import Row
from federation.secagg import Client, Reason, Refusal, Snapshot
from federation.secagg.client.stage import Stage as ClientStage
from federation.secagg.config import RoundConfig
from federation.secagg.messages import SurvivorList, decode
from privacy.budget import BudgetError, Step
from privacy.encoding import encode
from privacy.receipts import survivors_hash
from privacy.sampling import sample_rows
from privacy.signing import public_key_hex
from retrieval.examples import ExampleSource
from storage.database import Database
from storage.membership_tables import ConfirmedPeer, Outcome

log = structlog.get_logger()


class NotNowError(Exception):
    """The work is not due yet; the same will be asked for again."""


class LeftError(Exception):
    """The node takes no part in this round (any more); the message says why."""


class ConsentError(Exception):
    """The owner's policy does not accept the plan any more; the message says why."""


class StatementError(CoordinatorError):
    """What the coordinator states about a round is not what the node knows of it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a node needs for the rounds of one membership.

    Attributes:
        membership_id: in the node's database.
        population: whose participant it is.
        members: identities on the roster in force, and `roster_hash` of it.
    """

    membership_id: str
    population: str
    roster_hash: str
    members: frozenset[str]


class Rounds:
    """The rounds of one membership. For one thread."""

    def __init__(
        self,
        client: CoordinatorClient,
        identity: Ed25519PrivateKey,
        database: Database,
        home: FederationHome,
        odometer: OdometerFile,
        source: ExampleSource,
        refusals: Callable[[FederationPlan], tuple[str, ...]],
    ) -> None:
        """`refusals` says why the policy in force does not accept a plan: nothing if it does."""
        self._client = client
        self._identity = identity
        self._database = database
        self._odometer = odometer
        self._record = RoundRecord(database, home.rounds)
        self._source = source
        self._refusals = refusals
        self._clients: dict[str, tuple[Client, RoundConfig]] = {}
        # When masked vectors leave, on the clock that nobody sets.
        self._due: dict[str, float] = {}
        self._trained: set[str] = set()
        self._reader = ThreadPoolExecutor(1, "examples")

    def close(self) -> None:
        """Begin no more training; the trainers are closed before."""
        self._reader.shutdown(cancel_futures=True)

    def enlist(
        self,
        work: Work,
        plan: FederationPlan,
        standing: Standing,
        versions: VersionSource,
        trainer: Trainer,
    ) -> None:
        """Say that the node takes part, and begin to train.

        The caller has made sure that the node is not paused and that the odometer was recovered.

        Raises:
            LeftError: the round is not a new one, the policy does not accept the plan, or the
                odometer admits no more.
        """
        if reasons := self._refusals(plan):
            raise LeftError(reasons[0])
        announcement = self._client.announcement(work.round_id)
        if (announcement.federation, announcement.plan_hash) != (plan.federation, plan.hash):
            raise LeftError("it is announced for another plan")
        if announcement.roster_hash != standing.roster_hash:
            raise NotNowError
        if not self._has_entered(announcement):
            if self._odometer.odometer.would_exceed(plan.run, 1) or self._was_debited(
                plan, work.round_id
            ):
                raise LeftError("the odometer admits no more rounds of this plan")
            vector = versions.vector(announcement.model_hash)
            for earlier in self._record.enter(announcement):
                self._forget(earlier)
            self._due[work.round_id] = time.monotonic() + plan.timing.training_seconds
            self._train(work.round_id, plan, vector, trainer)
        identity = public_key_hex(self._identity)
        receipts = self._record.receipts(standing.membership_id, identity)
        try:
            body = newest_receipts(receipts)
            self._client.send(work.federation, work.round_id, Stage.ENLISTING, body)
        except RefusedError as error:
            if error.code != "receipts_wanted":
                raise
            body = every_receipt(receipts)
            self._client.send(work.federation, work.round_id, Stage.ENLISTING, body)

    def answer(
        self,
        work: Work,
        plan: FederationPlan,
        standing: Standing,
        versions: VersionSource,
        trainer: Trainer | None,
    ) -> None:
        """Send the message of a stage after ENLISTING.

        Raises:
            NotNowError: the plan says to wait.
            LeftError: the node has left the round.
        """
        round_id = work.round_id
        if not self._is_open(round_id, plan):
            raise LeftError("the node does not take part in it")
        try:
            client, config = self._restored(round_id, plan, standing)
        except (Refusal, ValueError, OSError) as error:
            raise self._abandon(round_id, str(error)) from error
        if trainer and round_id not in self._trained and client.stage < ClientStage.MASKED:
            # After a restart; nothing that was sampled before has left the node.
            model_hash = self._client.announcement(round_id).model_hash
            self._train(round_id, plan, versions.vector(model_hash), trainer)
        try:
            message = self._message(work, plan, standing, client, config, trainer)
        except (Refusal, BudgetError, ConsentError, StatementError) as error:
            abort = client.leave(Reason.CLOSED)
            self._client.send(work.federation, round_id, work.stage, abort)
            raise self._abandon(round_id, str(error)) from error
        self._client.send(work.federation, round_id, work.stage, message)
        if work.stage is Stage.UNMASKING:
            self._record.end(round_id, Outcome.FINISHED)
            self._forget(round_id)

    def seconds_until_due(self) -> float:
        """Until the next masked vector leaves; infinite if none waits for its time."""
        now_ = time.monotonic()
        return min((due - now_ for due in self._due.values() if due > now_), default=math.inf)

    def abandon_before_masked(self, round_ids: frozenset[str]) -> None:
        """Give up rounds whose masked message is known to have left, where the state is older.

        So it is after a restore: another payload under the same masks must never be made.
        """
        for round_id in round_ids:
            stage = self._record.newest_stage(round_id)
            if stage is not None and stage < ClientStage.MASKED:
                self._abandon(round_id, "the node was restored from a backup")

    def _message(
        self,
        work: Work,
        plan: FederationPlan,
        standing: Standing,
        client: Client,
        config: RoundConfig,
        trainer: Trainer | None,
    ) -> bytes:
        round_id = work.round_id
        if work.stage is Stage.KEYS:
            return client.message
        if work.stage is Stage.MASKED:
            return self._masked(round_id, plan, client, trainer)
        request = self._client.outgoing(round_id, work.stage)
        if work.stage is Stage.SHARES:
            return client.share(request)
        if work.stage is Stage.SURVIVORS:
            self._countersign(round_id, plan, standing, request, config)
            return client.sign(request)
        return client.release(request)

    def _masked(
        self, round_id: str, plan: FederationPlan, client: Client, trainer: Trainer | None
    ) -> bytes:
        if time.monotonic() < self._due_at(round_id, plan):
            raise NotNowError
        was_debited = self._was_debited(plan, round_id)
        if not was_debited and (reasons := self._refusals(plan)):
            raise ConsentError(reasons[0])
        delivery = self._client.outgoing(round_id, Stage.MASKED)
        if client.stage >= ClientStage.MASKED:
            # Made before a crash: these bytes and no others.
            vector = np.zeros(plan.privacy.dimension, np.uint32)
        elif was_debited:
            raise BudgetError("the round was debited, and what was sent for it is not stored")
        else:
            rows = trainer.rows(round_id) if trainer is not None else []
            vector = encode(_padded(rows, plan), plan.privacy)
        is_fresh = client.stage < ClientStage.MASKED
        message = client.mask(delivery, vector)
        if not self._odometer.debit(plan.run, round_id) and is_fresh:
            raise BudgetError("the round was debited for another payload")
        self._record.note_sent(round_id, message)
        return message

    def _countersign(
        self,
        round_id: str,
        plan: FederationPlan,
        standing: Standing,
        request: bytes,
        config: RoundConfig,
    ) -> None:
        """Keep and hand over the receipt of the statement, if that says what the node knows."""
        survivors = decode(SurvivorList, request, config.hash).survivors
        identities = [config.roster[index].hex() for index in survivors]
        signed = self._client.statement(round_id)
        statement = signed.statement
        said = (
            statement.population, statement.federation, statement.plan_hash,
            statement.survivors_hash,
        )  # fmt: skip
        if said != (standing.population, plan.federation, plan.hash, survivors_hash(identities)):
            raise StatementError("the coordinator's statement is not about this round")
        receipt = self._record.countersign(round_id, signed, self._identity)
        if receipt.signed != signed:
            raise StatementError("the coordinator has signed two statements of this round")
        self._client.send_receipt(round_id, receipt)

    def _restored(
        self, round_id: str, plan: FederationPlan, standing: Standing
    ) -> tuple[Client, RoundConfig]:
        """The client of a round: in memory, from its file, or a new one for a new round."""
        if round_id in self._clients:
            return self._clients[round_id]
        invitation = self._client.invitation(round_id)
        if invitation is None:
            raise ValueError("the node was not invited")
        config = round_config(plan, invitation)
        if not standing.members.issuperset(invitation.members):
            raise ValueError("someone is invited who is not on the roster")
        with self._database.read() as session:
            peers = select(ConfirmedPeer.identity).where(
                ConfirmedPeer.membership_id == standing.membership_id
            )
            confirmed = set(session.scalars(peers))
        indices = frozenset(i for i, m in enumerate(invitation.members) if m in confirmed)

        def persist(snapshot: Snapshot) -> None:
            self._record.keep(round_id, snapshot)

        kept = self._record.kept(round_id)
        if kept is None:
            client = Client.start(config, self._identity, persist, indices)
        else:
            state, newest = kept
            client = Client.restore(state, config, self._identity, persist, indices, newest=newest)
        self._clients[round_id] = client, config
        return client, config

    def _train(
        self, round_id: str, plan: FederationPlan, vector: NDArray[np.float32], trainer: Trainer
    ) -> None:
        """Apart from the messages: how long the reading takes tells how many examples there are."""
        self._trained.add(round_id)
        self._reader.submit(self._begin, round_id, plan, vector, trainer)

    def _begin(
        self, round_id: str, plan: FederationPlan, vector: NDArray[np.float32], trainer: Trainer
    ) -> None:
        try:
            trainer.begin(round_id, vector, lambda: self._sample(plan))
        except Exception:
            # Without rows the node takes part all the same; to drop out would tell of its data.
            log.exception("the rows of a round are missing", round_id=round_id)

    def _sample(self, plan: FederationPlan) -> Examples:
        """The subjects whose rows enter a round; all of them in mode `client`."""
        subjects = self._source.subjects()
        if plan.rows_are_gradients:
            subjects = [subjects[i] for i in sample_rows(len(subjects), plan.privacy)]
        return self._source.examples(subjects)

    def _has_entered(self, announcement: Announcement) -> bool:
        """Whether the node is in this round already. Raises LeftError if it must not enter it."""
        own = self._record.get(announcement.round_id)
        if own is not None:
            if own.outcome is not Outcome.ENLISTED:
                raise LeftError("the node has left it")
            return True
        newest = self._record.newest_number(announcement.plan_hash)
        if newest is not None and announcement.round_number <= newest:
            raise LeftError("its number is not above that of an earlier round")
        return False

    def _is_open(self, round_id: str, plan: FederationPlan) -> bool:
        """Whether the node is in a round, which it entered under this very plan."""
        own = self._record.get(round_id)
        if own is None or own.plan_hash != plan.hash:
            return False
        return own.outcome in (Outcome.ENLISTED, Outcome.SENT)

    def _was_debited(self, plan: FederationPlan, round_id: str) -> bool:
        return round_id in self._odometer.odometer.rounds(plan.hash, Step.CHARGED)

    def _due_at(self, round_id: str, plan: FederationPlan) -> float:
        """After a restart the wall clock tells how long ago the announcement was seen."""
        if round_id not in self._due:
            own = self._record.get(round_id)
            if own is None:
                raise ValueError(f"round {round_id} was never entered")
            seconds = plan.timing.training_seconds
            left = min(max(own.seen_at + seconds - time.time(), 0.0), seconds)
            self._due[round_id] = time.monotonic() + left
        return self._due[round_id]

    def _abandon(self, round_id: str, reason: str) -> LeftError:
        self._record.end(round_id, Outcome.LEFT, reason)
        self._forget(round_id)
        return LeftError(reason)

    def _forget(self, round_id: str) -> None:
        self._clients.pop(round_id, None)
        self._due.pop(round_id, None)
        self._trained.discard(round_id)


def _padded(rows: list[Row], plan: FederationPlan) -> Iterator[Row]:
    """As many rows as the plan allows, zero ones last: how many there are must not take time."""
    yield from rows
    zero = np.zeros(plan.privacy.dimension)
    for number in range(plan.privacy.rows_per_node - len(rows)):
        yield b"missing %d" % number, zero
