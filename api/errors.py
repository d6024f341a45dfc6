"""One error shape for everything below /v1, OpenAI's: {"error": {message, type, param, code}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

log = structlog.get_logger()

TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every response that is not a success."""

    error: ErrorDetail


def _encodable(text: str) -> str:
    """`text` with half surrogate pairs, which a client's JSON may hold, spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


class ApiError(Exception):
    """A refusal that knows its status.

    `code` is for programs and stays the same, `message` is for people, `param` names the field
    that was wrong.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        return ErrorBody(
            error=ErrorDetail(
                message=_encodable(self.message),
                type=_type(self.status),
                param=None if self.param is None else _encodable(self.param),
                code=self.code,
            )
        ).model_dump()

    def response(self) -> JSONResponse:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of an endpoint, for the OpenAPI document."""
    return {status: {"model": ErrorBody} for status in statuses}


def install(app: FastAPI) -> None:
    """Give every refusal of `app` the one shape."""

    @app.exception_handler(ApiError)
    async def _refused(_request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
        where = ".".join(place) or None
        message = f"{where}: {first['msg']}" if where else str(first["msg"])
        return ApiError(400, "invalid_request", message, param=where).response()

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> JSONResponse:
        code = {
            404: "unknown_url",
            405: "method_not_allowed",
            408: "request_timeout",
            413: "too_large",
        }
        refused = ApiError(
            error.status_code, code.get(error.status_code, "http_error"), str(error.detail)
        )
        response = refused.response()
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def _failed(request: Request, error: Exception) -> JSONResponse:
        # The path names no document; the query string and the body may.
        log.error("request failed", path=request.url.path, exc_info=error)
        return ApiError(
            500, "internal_error", "the server failed on this request; its log says why"
        ).response()


def in_shape(scope: Scope, receive: Receive, send: Send) -> Send:
    """`send`, but for Starlette's refusal of a body that is too large, which is in plain text."""
    refused = False

    async def spelled(message: Message) -> None:
        nonlocal refused
        if message["type"] == "http.response.start" and message["status"] == 413:
            refused = Headers(raw=message["headers"]).get("content-type", "").startswith("text/")
            if refused:
                error = ApiError(413, "too_large", "the body is too large")
                await error.response()(scope, receive, send)
        if not refused:
            await send(message)

    return spelled


def _type(status: int) -> str:
    return TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
