"""The OpenAPI documents, with what is refused before an endpoint is reached."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from api.errors import ErrorBody, in_shape

OF_BODIES = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
"""`api.slow_bodies` and `max_body_size`."""

UNUSED_SCHEMAS = ("HTTPValidationError", "ValidationError")


class DocumentedAPI(FastAPI):
    """Where a body is read, 408 and 413 are documented, and of the one shape; FastAPI's 422, which
    `api.errors` answers with 400, is not."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_http = scope["type"] == "http"
        await super().__call__(scope, receive, in_shape(scope, receive, send) if is_http else send)

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                if "requestBody" in operation:
                    for status in OF_BODIES:
                        operation["responses"].setdefault(str(status.value), _refusal(status))
        for name in UNUSED_SCHEMAS:
            document["components"]["schemas"].pop(name, None)
        return document


def _refusal(status: HTTPStatus) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}
    return {"description": status.phrase, "content": {"application/json": {"schema": schema}}}
