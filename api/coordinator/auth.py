"""Who calls: staff by a key, participants by a session. The type of a parameter says who may."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.coordinator.coordinator import Coordinator
from api.coordinator.unavailable import PASSING, refusal
from api.errors import ApiError
from api.pages.client import VISITOR
from api.pages.door import is_open
from api.pages.sessions import Visitor
from federation.coordinator import sessions
from federation.coordinator.authority import Authority
from federation.coordinator.sessions import Caller
from storage import staff_keys
from storage.coordinator_tables import Role, StaffKey

PARTICIPANT_PREFIX = "/v1/participant/"
OPEN_PATHS = frozenset(
    {
        "/health",
        "/ready",
        "/openapi.json",
        "/v1/enrolments",
        "/v1/participant/challenges",
        "/v1/participant/sessions",
    }
)

_staff_bearer = HTTPBearer(
    auto_error=False, scheme_name="Staff key", description="A key of an admin or an auditor."
)
_participant_bearer = HTTPBearer(
    auto_error=False, scheme_name="Session", description="A participant's session token."
)
Documented = HTTPAuthorizationCredentials | None


# Coroutines, because FastAPI gives every other dependency a thread of its own.
async def get_coordinator(request: Request) -> Coordinator:
    coordinator: Coordinator = request.app.state.coordinator
    return coordinator


def identify(coordinator: Coordinator, token: str) -> Visitor:
    """Who signs in to the pages with a key.

    Raises:
        ApiError: 401.
    """
    with coordinator.database.read() as session:
        key = _known(staff_keys.verify(session, token))
    return Visitor(key.id, key.role)


class KeyMiddleware:
    """Lets nobody in without a key or a session, before a byte of the body is read."""

    def __init__(self, app: ASGIApp, coordinator: Coordinator) -> None:
        self._app = app
        self._coordinator = coordinator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"], OPEN_PATHS):
            identify = (
                self._participant if scope["path"].startswith(PARTICIPANT_PREFIX) else self._staff
            )
            try:
                caller = await to_thread.run_sync(identify, scope)
            except ApiError as error:
                await error.response()(scope, receive, send)
                return
            except PASSING as error:
                await refusal(error).response()(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    def _participant(self, scope: Scope) -> Caller:
        token = _token(scope, "missing_session", "open a session first: send its token as Bearer")
        with self._coordinator.database.look() as connection:
            caller = sessions.authenticate(connection, token)
        if caller is None:
            raise ApiError(401, "invalid_session", "the session is wrong or over: open another")
        return caller

    def _staff(self, scope: Scope) -> StaffKey:
        if VISITOR in scope:
            with self._coordinator.database.read() as session:
                return _known(staff_keys.find(session, scope[VISITOR].key_id))
        token = _token(scope, "missing_api_key", "send a key: Authorization: Bearer alcove_...")
        with self._coordinator.database.read() as session:
            return _known(staff_keys.verify(session, token))


async def get_staff(
    request: Request, _documented: Annotated[Documented, Security(_staff_bearer)]
) -> StaffKey:
    key: StaffKey = request.state.caller
    return key


async def get_admin(key: Annotated[StaffKey, Depends(get_staff)]) -> StaffKey:
    if key.role is not Role.ADMIN:
        raise ApiError(403, "admin_only", "this needs an admin's key")
    return key


async def get_caller(
    request: Request, _documented: Annotated[Documented, Security(_participant_bearer)]
) -> Caller:
    caller: Caller = request.state.caller
    return caller


async def get_authority(coordinator: Annotated[Coordinator, Depends(get_coordinator)]) -> Authority:
    return coordinator.authority


def _known(key: StaffKey | None) -> StaffKey:
    if key is None:
        raise ApiError(401, "invalid_api_key", "the key is wrong or was revoked")
    return key


def _token(scope: Scope, code: str, message: str) -> str:
    scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise ApiError(401, code, message)
    return token.strip()


CoordinatorDep = Annotated[Coordinator, Depends(get_coordinator)]
AuthorityDep = Annotated[Authority, Depends(get_authority)]
Staff = Annotated[StaffKey, Depends(get_staff)]
"""Admins and auditors: whoever may read."""
Admin = Annotated[StaffKey, Depends(get_admin)]
Participant = Annotated[Caller, Depends(get_caller)]
