"""The long poll by which nodes learn what they may send now; nobody ever calls a node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import structlog
from anyio import to_thread
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from api.bodies import RowBody
from api.coordinator.auth import AuthorityDep, Participant
from api.errors import responses
from federation.coordinator import outbox
from federation.coordinator.authority import Authority
from federation.coordinator.outbox import Work
from federation.coordinator.sessions import Caller
from federation.invitation import Stage

router = APIRouter(prefix="/v1/participant", tags=["Participation"], responses=responses(400, 401))

log = structlog.get_logger()

LONGEST_WAIT = 30.0
LOOK_SECONDS = 0.25


class WorkBody(RowBody):
    """A message of `stage` may be sent for the next `seconds_left` seconds."""

    federation: str
    round_id: str
    stage: Stage
    seconds_left: float


class WorkList(BaseModel):
    """`listing` changes with the roster, the federations and the versions that they promote."""

    data: list[WorkBody]
    listing: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """What polls wait for a change of: `listings` is of each population its marker."""

    rounds: frozenset[tuple[str, str]] = frozenset()
    listings: Mapping[str, str] = field(default_factory=dict)


class Watcher:
    """Wakes this process's polls when something changes, whichever worker changed it.

    It asks the database for small markers however many polls there are.
    """

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._change = asyncio.Event()
        self._seen = _Seen()

    def next_change(self) -> asyncio.Event:
        """Set at the next change; taken before one looks, so that none is missed."""
        return self._change

    def listing(self, population: str) -> str:
        """The population's marker; empty before the first look."""
        return self._seen.listings.get(population, "")

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                seen = await to_thread.run_sync(self._look)
            except SQLAlchemyError:
                log.exception("the database could not be looked at")
                seen = self._seen
            if seen != self._seen:
                self._seen = seen
                self._change.set()
                self._change = asyncio.Event()
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self) -> _Seen:
        with self._authority.database.look() as connection:
            return _Seen(outbox.change_marker(connection), outbox.listing_markers(connection))


@router.get("/work")
async def work(
    authority: AuthorityDep,
    caller: Participant,
    request: Request,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT)] = 0.0,
    listing: str | None = None,
) -> WorkList:
    """What this participant may send now; waits for it up to `wait` seconds.

    With `listing`, that of an earlier answer, it does not wait once there is another.
    """
    watcher: Watcher = request.app.state.watcher
    deadline = time.monotonic() + wait
    while True:
        change = watcher.next_change()
        current = watcher.listing(caller.population)
        found = await to_thread.run_sync(_work, authority, caller)
        left = deadline - time.monotonic()
        is_news = found or listing not in (None, current)
        if is_news or left <= 0 or await request.is_disconnected():
            return WorkList(data=[_body(one) for one in found], listing=current)
        try:
            await asyncio.wait_for(change.wait(), left)
        except TimeoutError:
            return WorkList(data=[], listing=current)


def _work(authority: Authority, caller: Caller) -> list[Work]:
    with authority.database.look() as connection:
        return outbox.work(connection, caller)


def _body(one: Work) -> WorkBody:
    return WorkBody.of(one, seconds_left=round(one.seconds_left, 1))
