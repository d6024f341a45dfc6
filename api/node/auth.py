"""Who calls: keys to principals. The type of a parameter says who may call an endpoint."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from api.errors import ApiError
from api.node.node import Models, Node
from api.pages.client import VISITOR
from api.pages.door import is_open
from api.pages.sessions import Visitor
from storage import keys
from storage.keys import Principal
from storage.node_tables import Assistant, Key, Scope

OPEN_PATHS = frozenset({"/health", "/ready", "/openapi.json"})
SESSION = Principal(key_id="session", scope=Scope.OWNER, assistant_ids=None)

_bearer = HTTPBearer(auto_error=False, description="A key made by `alcove key create`.")


def get_node(request: Request) -> Node:
    node: Node = request.app.state.node
    return node


def identify(node: Node, token: str) -> Visitor:
    """Who signs in to the pages with a key that the node stores.

    Raises:
        ApiError: 401.
    """
    with node.database.read() as session:
        principal = _known(keys.verify(session, token))
    return Visitor(principal.key_id, principal.scope)


class KeyMiddleware:
    """Lets nobody in without a key, before a byte of the body is read."""

    def __init__(self, app: ASGIApp, node: Node) -> None:
        self._app = app
        self._node = node

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"], OPEN_PATHS):
            try:
                principal = await to_thread.run_sync(self._identify, scope)
            except ApiError as error:
                await error.response()(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)

    def _identify(self, scope: ASGIScope) -> Principal:
        if VISITOR in scope:
            with self._node.database.read() as session:
                return _known(keys.find(session, scope[VISITOR].key_id))
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise ApiError(401, "missing_api_key", "send a key: Authorization: Bearer alcove_...")
        token = token.strip()
        if self._node.is_session_key(token):
            return SESSION
        with self._node.database.read() as session:
            return _known(keys.verify(session, token))


def _known(principal: Principal | None) -> Principal:
    if principal is None:
        raise ApiError(401, "invalid_api_key", "the key is wrong or was revoked")
    return principal


def get_principal(
    request: Request,
    _documented: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Principal:
    principal: Principal = request.state.principal
    return principal


def get_owner(principal: Annotated[Principal, Depends(get_principal)]) -> Principal:
    if principal.scope is not Scope.OWNER:
        raise ApiError(403, "owner_only", "this needs a key with the scope 'owner'")
    return principal


def get_node_owner(principal: Annotated[Principal, Depends(get_owner)]) -> Principal:
    if principal.assistant_ids is not None:
        raise ApiError(
            403, "node_owner_only", "this needs an owner's key that is not bound to assistants"
        )
    return principal


def get_models(
    node: Annotated[Node, Depends(get_node)],
    _caller: Annotated[Principal, Depends(get_principal)],
) -> Models:
    """The loaded models, once the caller is known."""
    if node.models is None:
        raise ApiError(503, "starting", "the node is still loading its models", retry_after=5)
    return node.models


NodeDep = Annotated[Node, Depends(get_node)]
Caller = Annotated[Principal, Depends(get_principal)]
Owner = Annotated[Principal, Depends(get_owner)]
NodeOwner = Annotated[Principal, Depends(get_node_owner)]
ModelsDep = Annotated[Models, Depends(get_models)]


def visible(session: Session, principal: Principal, name: str) -> Assistant:
    """The assistant of that name; one that the key may not see is as unknown as any other.

    Raises:
        ApiError: 404.
    """
    query = select(Assistant).where(Assistant.name == name)
    if principal.assistant_ids is not None:
        query = query.where(Assistant.id.in_(principal.assistant_ids))
    assistant = session.scalars(query).one_or_none()
    if assistant is None:
        raise unknown_assistant(name)
    return assistant


def unknown_assistant(name: str) -> ApiError:
    """The refusal for one that the key may not see, that is not there or is being deleted."""
    message = f"there is no assistant {name!r} for this key"
    return ApiError(404, "model_not_found", message, param="model")


def visible_assistants(session: Session, principal: Principal) -> list[Assistant]:
    """All assistants of a key, by name."""
    query = select(Assistant).order_by(Assistant.name)
    if principal.assistant_ids is not None:
        query = query.where(Assistant.id.in_(principal.assistant_ids))
    return list(session.scalars(query))


def own_key(session: Session, principal: Principal) -> Key | None:
    """The row of the caller's key; None for the session key, which the node does not store."""
    return session.get(Key, principal.key_id)


def own_key_id(principal: Principal) -> str | None:
    """The id of that row, which every other key has for good: keys are revoked, never deleted."""
    return None if principal is SESSION else principal.key_id


def owned_assistant(
    node: NodeDep, owner: Owner, assistant: Annotated[str, Path(max_length=100)]
) -> Assistant:
    with node.database.read() as session:
        return visible(session, owner, assistant)


OwnedAssistant = Annotated[Assistant, Depends(owned_assistant)]
