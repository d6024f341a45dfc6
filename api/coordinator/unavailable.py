"""What fails for want of room on the disk or of the database is answered 503, and sent again."""

from __future__ import annotations

import structlog
from fastapi import Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError

from api.errors import ApiError

log = structlog.get_logger()

PASSING = (OperationalError, OSError)
"""Not the fault of the request, which may succeed a little later."""


def refusal(error: Exception) -> ApiError:
    """The answer, once the reason is in the log."""
    log.error("nothing can be stored", exc_info=error)
    return ApiError(503, "unavailable", "the coordinator cannot store anything now: try again")


async def unavailable(_request: Request, error: Exception) -> JSONResponse:
    """For `FastAPI.add_exception_handler`."""
    return refusal(error).response()
