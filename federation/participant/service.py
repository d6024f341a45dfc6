"""A node's memberships: joined, left and paused by the owner, and driven while it serves."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select

from federation.adapter_spec import AdapterKind
from federation.enrolment import EnrolmentToken
from federation.odometer_file import OdometerError, OdometerFile
from federation.participant import overview
from federation.participant.adoption import Adoption, ServedLora, ServedMap, read_known_plan
from federation.participant.base_models import BaseModel, BaseModels
from federation.participant.consent import Consent
from federation.participant.coordinator_client import (
    CoordinatorClient,
    CoordinatorError,
    RefusedError,
    check_url,
)
from federation.participant.identity import (
    FederationHome,
    IdentityError,
    create_identity,
    load_identity,
    remove_identity,
)
from federation.participant.policy import ConsentPolicy
from federation.participant.worker import OPEN_STATES, MembershipWorker, Tools
from generation.engine import Engine
from privacy.signing import public_key_hex
from retrieval.embedding import Embedder
from retrieval.examples import ExampleSource
from retrieval.library import Library
from storage.database import Database
from storage.membership_tables import FormerIdentity, KnownPlan, Membership, MembershipState
from storage.settings import NodeSettings

if TYPE_CHECKING:
    from federation.participant.shared_generator import SharedGenerator

log = structlog.get_logger()


class FederationError(ValueError):
    """What the owner asked for cannot be done; the message says why."""


class UnknownMembershipError(FederationError):
    """There is no such membership."""


class FederationService:
    """The node's part in federations. One per process; its methods are safe in any thread."""

    def __init__(self, database: Database, node_folder: Path) -> None:
        """Open the odometer. Without a usable one the node goes on, but takes part in nothing."""
        self._database = database
        self._home = FederationHome(node_folder / "federation")
        self._lock = threading.RLock()
        self._workers: dict[str, MembershipWorker] = {}
        self._tools: Tools | None = None
        self._generator: SharedGenerator | None = None
        self._participates = False
        self._listeners: list[Callable[[AdapterKind], None]] = []
        self.problem: str | None = None
        database.on_deletion(self._forget)
        self._consent: Consent | None = None
        try:
            self._consent = Consent(database, self._home)
        except (OdometerError, OSError) as error:
            self.problem = str(error)
            log.error("the node takes part in no federation", reason=str(error))

    @property
    def consent(self) -> Consent:
        """Policy and odometer. Raises FederationError if the odometer cannot be used."""
        if self._consent is None:
            raise FederationError(self.problem or "the odometer cannot be used")
        return self._consent

    @property
    def adoption(self) -> Adoption | None:
        """None until the models are loaded."""
        return self._tools.adoption if self._tools is not None else None

    def on_shared_change(self, listener: Callable[[AdapterKind], None]) -> None:
        """Call `listener` after each change of the shared adapter that is served, with its kind; it
        must not wait for an answer of this service."""
        self._listeners.append(listener)

    @property
    def shared_map(self) -> ServedMap | None:
        """The shared query map that is served, if any."""
        return self._tools.adoption.shared_map if self._tools is not None else None

    @property
    def shared_lora(self) -> ServedLora | None:
        """The shared generator adapter that is served, if any."""
        return self._tools.adoption.shared_lora if self._tools is not None else None

    @property
    def generator_adapters(self) -> tuple[str, ...]:
        """What every answer's `GenerationRequest.adapters` begins with."""
        generator = self._generator
        return () if generator is None else generator.adapters

    def base_models(self) -> dict[AdapterKind, BaseModel]:
        """What can be trained here; empty until the models are loaded."""
        tools = self._tools
        found = {} if tools is None else {kind: tools.models.get(kind) for kind in AdapterKind}
        return {kind: model for kind, model in found.items() if model is not None}

    def start(
        self,
        settings: NodeSettings,
        embedder: Embedder,
        library: Library,
        engine: Engine | None,
        *,
        participate: bool,
    ) -> None:
        """Serve what was adopted, and with `participate` drive every membership from now on."""
        if self._consent is None:
            return
        self._home.create()
        consent = self._consent
        source = ExampleSource(
            self._database, self._home.secret(), lambda: consent.policy.shares_feedback
        )
        models = BaseModels(settings, embedder)
        self._generator = _shared_generator(engine)
        adoption = Adoption(
            self._database, self._home, source, models, embedder, library, self._generator,
            self._tell,
        )  # fmt: skip
        adoption.resume()
        with self._lock:
            self._tools = Tools(
                self._database, self._home, self._consent, source, adoption, models
            )  # fmt: skip
            self._participates = participate
            for membership in self.memberships():
                if membership.state in OPEN_STATES:
                    self._drive(membership)

    def close(self) -> None:
        """Stop at a safe point and give the odometer free."""
        with self._lock:
            workers, self._workers = list(self._workers.values()), {}
            self._tools = None
        for worker in workers:
            worker.close()
        if self._consent is not None:
            self._consent.close()

    def join(self, url: str, token: str, name: str) -> Membership:
        """Enrol with a coordinator; asking again before it has approved uses the same identity.

        Raises:
            FederationError: address, token or name are none, or the odometer cannot be used.
            CoordinatorError: the coordinator refused, and all is as before; or it did not answer,
                and may have enrolled the node: the membership stays.
        """
        try:
            url, parsed = check_url(url), EnrolmentToken.parse(token)
            self.consent.open_odometer()
        except (ValueError, OdometerError) as error:
            raise FederationError(str(error)) from error
        with self._lock:
            half = self._half_joined(parsed.coordinator)
            membership = half or self._begin(url, parsed.coordinator, name)
            identity = load_identity(self._home, membership.identity)
            client = CoordinatorClient(url, parsed.coordinator, identity)
            try:
                client.enrol(parsed, name)
            except (RefusedError, ValueError) as error:
                if half is None:
                    self._undo(membership)
                if isinstance(error, RefusedError):
                    raise
                raise FederationError(str(error)) from error
            except CoordinatorError:
                if half is None:
                    self._drive(membership, is_new=True)
                raise
            finally:
                client.close()
            if half is not None:
                self._stop(half.id)
                membership = self._renamed(half.id, url, name)
            self._drive(membership, is_new=half is None)
        return membership

    def leave(self, membership_id: str) -> None:
        """Take part no more; what was spent stays in the odometer."""
        with self._lock:
            self._stop(membership_id)
            with self._database.write() as session:
                membership = session.get(Membership, membership_id)
                if membership is None:
                    raise UnknownMembershipError(f"there is no membership {membership_id!r}")
                membership.state = MembershipState.LEFT
                identity = membership.identity
            remove_identity(self._home, identity)

    def pause(self, membership_id: str, paused: bool) -> None:
        """Enter no new rounds, or enter them again; a round that is under way goes on."""
        with self._database.write() as session:
            membership = session.get(Membership, membership_id)
            if membership is None:
                raise UnknownMembershipError(f"there is no membership {membership_id!r}")
            membership.paused = paused

    def rotate(self, membership_id: str) -> str:
        """Replace the identity key of a membership; returns the new public key.

        Raises:
            UnknownMembershipError, CoordinatorError: the old key stays.
        """
        with self._lock:
            membership = self.membership(membership_id)
            self._stop(membership_id)
            old = membership.identity
            new = create_identity(self._home)
            fresh = public_key_hex(new)
            client = CoordinatorClient(
                membership.url, membership.coordinator, load_identity(self._home, old)
            )
            try:
                client.rotate(new)
                with self._database.write() as session:
                    session.get_one(Membership, membership_id).identity = fresh
                    session.add(FormerIdentity(identity=old, membership_id=membership_id))
            except RefusedError:
                remove_identity(self._home, fresh)
                raise
            finally:
                client.close()
                self._drive(self.membership(membership_id))
            remove_identity(self._home, old)
        return fresh

    def memberships(self) -> list[Membership]:
        """All, those that were left too."""
        with self._database.read() as session:
            return list(session.scalars(select(Membership).order_by(Membership.created_at)))

    def membership(self, membership_id: str) -> Membership:
        """Raises UnknownMembershipError."""
        with self._database.read() as session:
            found = session.get(Membership, membership_id)
        if found is None:
            raise UnknownMembershipError(f"there is no membership {membership_id!r}")
        return found

    def problem_of(self, membership_id: str) -> str | None:
        """What keeps a membership from taking part, as far as this process has noticed."""
        with self._lock:
            worker = self._workers.get(membership_id)
        if worker is None:
            return self.problem
        if worker.problem is None and not worker.recovered:
            return "waiting for the coordinator's evidence of earlier rounds"
        return worker.problem

    def odometer(self) -> OdometerFile | None:
        """None before the first membership. Raises FederationError if it cannot be used."""
        return self.consent.odometer

    def weigh(self, policy: ConsentPolicy) -> list[tuple[KnownPlan, tuple[str, ...]]]:
        """The plans that the node has seen, and why it would take no part in each under a policy.

        Raises:
            FederationError: the models, which plans name, are not loaded.
        """
        tools = self._tools
        if tools is None:
            raise FederationError(self.problem or "the node is still starting")
        with self._database.read() as session:
            known = overview.plans(session)
        return [(row, tools.refusals(read_known_plan(row), policy)) for row in known]

    def refresh(self) -> None:
        """Have the workers look at policy, roster and plans again soon."""
        with self._lock:
            for worker in self._workers.values():
                worker.refresh()

    def _tell(self, kind: AdapterKind) -> None:
        for listener in self._listeners:
            listener(kind)

    def _forget(self) -> None:
        """Something was erased: no training process keeps it."""
        for worker in list(self._workers.values()):
            worker.forget()

    def _all_recovered(self) -> bool:
        """Whether every coordinator has shown its evidence since this process began."""
        open_ones = [m.id for m in self.memberships() if m.state in OPEN_STATES]
        workers = dict(self._workers)
        return all(name in workers and workers[name].recovered for name in open_ones)

    def _half_joined(self, coordinator: str) -> Membership | None:
        """The membership with a coordinator that has not approved it yet, as far as is known."""
        with self._database.read() as session:
            return session.scalars(
                select(Membership).where(
                    Membership.coordinator == coordinator,
                    Membership.state == MembershipState.PENDING,
                )
            ).first()

    def _renamed(self, membership_id: str, url: str, name: str) -> Membership:
        """The membership with another address and name."""
        with self._database.write() as session:
            membership = session.get_one(Membership, membership_id)
            membership.url, membership.name = url, name
        return self.membership(membership_id)

    def _begin(self, url: str, coordinator: str, name: str) -> Membership:
        """The row and the key of a new membership."""
        identity = create_identity(self._home)
        membership = Membership(
            id=f"membership-{secrets.token_hex(4)}",
            url=url,
            coordinator=coordinator,
            name=name,
            identity=public_key_hex(identity),
        )
        with self._database.write() as session:
            session.add(membership)
        return membership

    def _undo(self, membership: Membership) -> None:
        with self._database.write() as session:
            session.delete(session.get_one(Membership, membership.id))
        remove_identity(self._home, membership.identity)

    def _drive(self, membership: Membership, *, is_new: bool = False) -> None:
        """Run its worker. With `is_new` its identity was made just now and has signed nothing that
        a coordinator could show, so nobody waits for this one."""
        if self._tools is None or not self._participates:
            return
        try:
            worker = MembershipWorker(self._tools, membership, self._all_recovered)
        except (IdentityError, OdometerError, ValueError) as error:
            # Without this membership's evidence the node enters no round of any other either.
            self.problem = str(error)
            log.error("a membership cannot be driven", reason=str(error))
            return
        worker.recovered = is_new
        self._workers[membership.id] = worker
        worker.start()

    def _stop(self, membership_id: str) -> None:
        worker = self._workers.pop(membership_id, None)
        if worker is not None:
            worker.close()


def _shared_generator(engine: Engine | None) -> SharedGenerator | None:
    """None for an engine without adapters."""
    from generation.transformers_engine import TransformersEngine

    if not isinstance(engine, TransformersEngine):
        return None
    from federation.participant.shared_generator import SharedGenerator

    return SharedGenerator(engine)
