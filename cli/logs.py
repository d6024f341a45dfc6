"""Logs on standard error, in one shape. Nothing here prints local variables, which hold texts."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import Literal, TextIO, cast

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

Audience = Literal["server", "command"]


def configure(audience: Audience) -> None:
    """Send the logs of the product and of its libraries to standard error.

    A server says what it does and keeps tracebacks, as lines for people on a terminal and as JSON
    otherwise; a command only gives warnings, a line each.
    """
    stamped: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered = _rendering(audience)
    level = logging.INFO if audience == "server" else logging.WARNING
    structlog.configure(
        processors=[*stamped, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _Patient())),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=stamped,
            processors=[ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    # What libraries say of their work at INFO may hold texts; what they warn of is kept.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    # The application has reported those already.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: not record.getMessage().startswith("Exception in ASGI application")
    )
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class _Patient:
    """Standard error without its failures: whoever logs a full disk must not die of it."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            return sys.stderr.write(text)
        return 0

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def _rendering(audience: Audience) -> list[Processor]:
    if audience == "command":
        return [_one_line]
    if sys.stderr.isatty():
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    reason = event.get("exc_info")
    if reason is True:
        reason = sys.exc_info()
    error = reason[1] if isinstance(reason, tuple) else reason
    because = f": {type(error).__name__}: {error}" if error else ""
    return f"alcove: {event['event']}{because}".splitlines()[0]
