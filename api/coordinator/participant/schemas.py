"""Types of paths and bodies that the participants' endpoints share."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Path, Request, Response
from pydantic import StringConstraints

HASH = r"^[0-9a-f]{64}$"

Identity = Annotated[str, StringConstraints(pattern=HASH)]
RoundId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
BlobHash = Annotated[str, Path(pattern=HASH)]
Signature = Annotated[
    str,
    Header(
        alias="Alcove-Signature",
        pattern=r"^[0-9a-f]{128}$",
        description="of the message's header, by the participant's identity",
    ),
]

OCTETS = "application/octet-stream"
BINARY: dict[str, Any] = {OCTETS: {"schema": {"type": "string"}}}
RAW_BODY: dict[str, Any] = {"requestBody": {"required": False, "content": BINARY}}
"""For the OpenAPI document of an endpoint that reads its body as it comes."""
BYTES: dict[int | str, dict[str, Any]] = {200: {"content": BINARY}}
JSON_BYTES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {}}}}


async def _raw_body(request: Request) -> bytes:
    return await request.body()


RawBody = Annotated[bytes, Depends(_raw_body)]


def octets(data: bytes) -> Response:
    return Response(data, media_type=OCTETS)


def stored_json(data: bytes) -> Response:
    """A signed record as it is stored: anything else would break its signature."""
    return Response(data, media_type="application/json")
