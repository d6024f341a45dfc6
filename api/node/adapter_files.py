"""Adapters of an assistant as files. Off by default: what is exported leaves the node."""

from __future__ import annotations

from typing import Annotated, Any

import structlog
from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node.auth import ModelsDep, NodeDep, OwnedAssistant, Owner
from api.node.node import Node
from personal.exchange import LARGEST, AdapterExchange, NotServedError, Which
from storage.archives import pack, unpack
from storage.example_tables import PersonalKind, PersonalState
from storage.keys import Principal
from storage.node_tables import Assistant
from storage.settings import MEBIBYTE

log = structlog.get_logger()

router = APIRouter(
    prefix="/v1/assistants/{assistant}/adapters",
    tags=["Personal"],
    responses=responses(400, 401, 403, 404, 503),
)

ZIP = "application/zip"
LARGEST_ARCHIVE = 66 * MEBIBYTE
ARCHIVE: dict[str, Any] = {
    "requestBody": {
        "description": "A zip of the files of one adapter, as an export makes them.",
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class ImportedBody(RowBody):
    """A personal version that was imported; it is served once it is chosen."""

    id: int
    kind: PersonalKind
    state: PersonalState
    created_at: int


@router.get("/export", response_class=Response, responses={200: {"content": {ZIP: {}}}})
def export_adapter(
    node: NodeDep,
    models: ModelsDep,
    owner: Owner,
    assistant: OwnedAssistant,
    kind: Annotated[PersonalKind, Query(description="which model it is for")],
    which: Annotated[Which, Query(description="both: their sum as one adapter")],
) -> Response:
    """The adapter in use, as a zip of a PEFT folder or of a query map and its spec."""
    if not node.settings.allow_adapter_export:
        raise _is_off("allow_adapter_export", "exporting")
    try:
        exported = AdapterExchange(node.database, node.federation).export(assistant.id, kind, which)
    except NotServedError as error:
        raise ApiError(404, "adapter_not_found", str(error)) from error
    log.info(
        "an adapter was exported",
        assistant=assistant.name,
        kind=kind.value,
        which=which.value,
        version=exported.version,
        key=owner.key_id,
    )
    name = f"{kind.value}-{which.value}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(pack(exported.files), media_type=ZIP, headers=headers)


@router.post(
    "/import",
    status_code=201,
    openapi_extra=ARCHIVE,
    max_body_size=LARGEST_ARCHIVE,
)
async def import_adapter(
    node: NodeDep, _models: ModelsDep, owner: Owner, assistant: OwnedAssistant, request: Request
) -> ImportedBody:
    """Keep an adapter as a personal version; it is served once it is chosen.

    Safetensors only, checked for its shapes and for the model that it is for.
    """
    if not node.settings.allow_adapter_import:
        raise _is_off("allow_adapter_import", "importing")
    body = await request.body()
    return await to_thread.run_sync(_import, node, owner, assistant, body)


def _import(node: Node, owner: Principal, assistant: Assistant, body: bytes) -> ImportedBody:
    try:
        exchange = AdapterExchange(node.database, node.federation)
        row = exchange.store(assistant.id, unpack(body, LARGEST))
    except ValueError as error:
        raise ApiError(400, "unusable_adapter", str(error)) from error
    except NotServedError as error:
        raise ApiError(404, "adapter_not_found", str(error)) from error
    log.info(
        "an adapter was imported",
        assistant=assistant.name,
        kind=row.kind.value,
        version=row.id,
        key=owner.key_id,
    )
    return ImportedBody.of(row)


def _is_off(setting: str, what: str) -> ApiError:
    return ApiError(
        403, f"{what}_is_off", f"{what} adapters is off: set {setting} = true in settings.toml"
    )
