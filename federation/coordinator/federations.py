"""Federations: made from a plan, signed and never changed; started, paused, stopped."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import lru_cache

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from federation.adapter_spec import blob_hash, parameters_from_bytes, parameters_hash
from federation.coordinator import populations, versions
from federation.coordinator.authority import Authority
from federation.coordinator.refused import conflict, invalid, unknown
from federation.optimiser import OptimiserState
from federation.plan import FederationPlan, read_plan
from federation.signed import Signed
from federation.versions import Version
from privacy.budget import Budget, BudgetError, BudgetExceededError, Event, Step
from privacy.signing import Domain
from storage.coordinator_tables import Blob, Federation, FederationState, Round

ALLOWED_FROM = {
    "start": (FederationState.CREATED,),
    "pause": (FederationState.RUNNING,),
    "resume": (FederationState.PAUSED,),
    "stop": (FederationState.CREATED, FederationState.RUNNING, FederationState.PAUSED),
}
"""The states in which an admin's action is accepted."""


def create(
    authority: Authority, plan: FederationPlan, blobs: Iterable[bytes], initial: bytes
) -> None:
    """Sign a plan, set its rounds aside in the budget and publish version 0.

    Args:
        blobs: the files that the plan names by hash (basis, public passages) and that are not
            stored yet.
        initial: the vector that the first round starts from (`parameters_to_bytes`).

    Raises:
        RefusedError: bad_plan, the parts do not belong together; federation_exists;
            unknown_population; budget_mismatch, the limit cannot bound such a plan;
            budget_exceeded.
    """
    if plan.coordinator != authority.identity:
        raise invalid("bad_plan", "the plan names another coordinator")
    try:
        vector = parameters_from_bytes(initial, plan.adapter)
    except ValueError as error:
        raise invalid("bad_plan", f"initial parameters: {error}") from error
    if parameters_hash(initial) != plan.initial_hash:
        raise invalid("bad_plan", "the initial parameters are not those of the plan")
    version = Version(
        plan.federation, plan.hash, 0, plan.adapter.hash, plan.adapter.base_model,
        plan.initial_hash, None, None,
    )  # fmt: skip
    with authority.database.write() as session:
        populations.lock(session, plan.population)
        if session.get(Federation, plan.federation) is not None:
            raise conflict("federation_exists", f"there is a federation {plan.federation!r}")
        _store_blobs(session, plan, blobs)
        _reserve(session, plan)
        session.add(
            Federation(
                name=plan.federation,
                population=plan.population,
                plan=Signed.issue(plan, Domain.PLAN, authority.key).to_bytes(),
                plan_hash=plan.hash,
            )
        )
        session.flush()
        moments = OptimiserState.zero(vector.size)
        versions.add(session, authority, version, initial, moments)


def start(authority: Authority, name: str) -> None:
    """Run rounds from now on. Raises RefusedError: unknown_federation, wrong_state."""
    _move(authority, name, "start", FederationState.RUNNING, None)


def pause(authority: Authority, name: str, reason: str) -> None:
    """Open no more rounds; one that has begun goes on. Raises RefusedError as `start`."""
    _move(authority, name, "pause", FederationState.PAUSED, reason)


def resume(authority: Authority, name: str) -> None:
    """Go on after a pause. Raises RefusedError as `start`."""
    _move(authority, name, "resume", FederationState.RUNNING, None)


def stop(authority: Authority, name: str, reason: str) -> None:
    """End it for ever and give back what was set aside; a round that has begun fails.

    Raises RefusedError as `start`.
    """
    _move(authority, name, "stop", FederationState.STOPPED, reason)


def promote(authority: Authority, name: str, number: int) -> None:
    """Tell nodes to try this version. Training always goes on from the newest one.

    Raises:
        RefusedError: unknown_federation, unknown_version.
    """
    with authority.database.write() as session:
        found = get(session, name, lock=True)
        found.promoted = versions.get(session, name, number).number


def roll_back(authority: Authority, name: str) -> int:
    """Tell nodes to try the version before the promoted one; returns its number.

    Raises:
        RefusedError: unknown_federation; no_older_version.
    """
    with authority.database.write() as session:
        found = get(session, name, lock=True)
        if found.promoted == 0:
            raise conflict("no_older_version", "version 0 is promoted, and there is no older one")
        found.promoted -= 1
        return found.promoted


def get(session: Session, name: str, *, lock: bool = False) -> Federation:
    """A federation. Raises RefusedError: unknown_federation."""
    query = select(Federation).where(Federation.name == name)
    found = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if found is None:
        raise unknown("unknown_federation", f"there is no federation {name!r}")
    return found


@lru_cache(maxsize=64)
def _plan(signed: bytes, coordinator: str) -> FederationPlan:
    return read_plan(signed, coordinator).record


def plan_of(federation: Federation, authority: Authority) -> FederationPlan:
    """The plan of a federation."""
    return _plan(federation.plan, authority.identity)


def slot_name(plan_hash: str, slot: int) -> str:
    """How the budget names one round of a plan."""
    return f"{plan_hash}/{slot}"


def next_slot(budget: Budget, plan: FederationPlan) -> int | None:
    """The first of a plan's rounds that is set aside and not charged; None if there is none."""
    left = budget.rounds(plan.hash, Step.RESERVED)
    return min((int(name.rpartition("/")[2]) for name in left), default=None)


def release_rest(session: Session, federation: Federation, budget: Budget) -> None:
    """Give back every round of the plan that is still set aside; the population is locked."""
    for name in budget.rounds(federation.plan_hash, Step.RESERVED):
        record_events(
            session, federation.population, budget, budget.release(federation.plan_hash, name)
        )


def record_events(
    session: Session, population: str, budget: Budget, events: Iterable[Event]
) -> None:
    """Store events, then let the budget know of them."""
    events = tuple(events)
    populations.store_events(session, population, events)
    for event in events:
        budget.record(event)


def _reserve(session: Session, plan: FederationPlan) -> None:
    spending = populations.budget(session, plan.population)
    slots = [slot_name(plan.hash, slot) for slot in range(plan.privacy.rounds)]
    try:
        events = spending.reserve(plan.run, slots)
    except BudgetExceededError as error:
        raise conflict("budget_exceeded", str(error)) from error
    except BudgetError as error:
        raise conflict("budget_mismatch", str(error)) from error
    if not events:
        raise conflict("federation_exists", "this very plan was used before")
    populations.store_events(session, plan.population, events)


def _store_blobs(session: Session, plan: FederationPlan, blobs: Iterable[bytes]) -> None:
    needed = {plan.adapter.basis_hash, plan.public_hash}
    given = {blob_hash(data): data for data in blobs}
    if given.keys() - needed:
        raise invalid("bad_plan", "a file is given that the plan does not name")
    stored = set(session.scalars(select(Blob.hash).where(Blob.hash.in_(needed))))
    if missing := needed - stored - given.keys():
        raise invalid("bad_plan", f"the plan names a file that is not given: {min(missing)}")
    session.add_all(Blob(hash=name, data=given[name]) for name in given.keys() - stored)


def _move(
    authority: Authority, name: str, action: str, state: FederationState, reason: str | None
) -> None:
    with authority.database.write() as session:
        population = get(session, name).population
        populations.lock(session, population)
        federation = get(session, name, lock=True)
        if federation.state not in ALLOWED_FROM[action]:
            raise conflict(
                "wrong_state", f"cannot {action} it: the federation is {federation.state}"
            )
        federation.state, federation.reason = state, reason
        if state is FederationState.RUNNING:
            federation.next_round_at = time.time()
        if state is FederationState.STOPPED and not _has_unfinished_round(session, name):
            release_rest(session, federation, populations.budget(session, population))


def _has_unfinished_round(session: Session, name: str) -> bool:
    query = select(Round.id).where(Round.federation == name, Round.ended_at.is_(None))
    return bool(session.scalar(select(exists(query))))
