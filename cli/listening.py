"""How a server listens: its socket, its certificate, its URL, its settings of uvicorn."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.errors import CommandError, os_error_message

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from storage.settings import ServerSettings

GRACE_SECONDS = 3
"""What still runs then is cut: streamed answers, and long polls, which nodes simply repeat."""

_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate with its chain, and its key, both PEM."""

    certificate: Path
    key: Path


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        CommandError: the address is not this machine's or the port is not free.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise CommandError(
            f"cannot listen on {host}, port {port}: {os_error_message(error)}"
        ) from error
    # Connections inherit it. Without it the body of an answer waits 40 ms for the client's
    # acknowledgement of the head; asyncio sets it on sockets that it made itself only.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket, tls: Tls | None) -> str:
    """Where this machine reaches what listens there."""
    host, port = listener.getsockname()[:2]
    local = _REACHED_AT.get(host, host)
    return f"{'https' if tls else 'http'}://{f'[{local}]' if ':' in local else local}:{port}"


def own_certificate(tls: Tls | None) -> str | None:
    """The first certificate of the chain, PEM; None for plain HTTP."""
    if tls is None:
        return None
    end = "-----END CERTIFICATE-----"
    return tls.certificate.read_text().partition(end)[0] + end


def tls_of(settings: ServerSettings) -> Tls | None:
    """The certificate to serve with; None for plain HTTP.

    Raises:
        CommandError: it or its key cannot be read, or they do not match.
    """
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    tls = Tls(settings.tls_certificate, settings.tls_key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key)
    except OSError as error:
        raise CommandError(f"the certificate or its key cannot be used: {error}") from error
    return tls


def uvicorn_config(
    app: FastAPI | str, tls: Tls | None, *, sockets: bool, **more: Any
) -> uvicorn.Config:
    """How every server here is run; `more` are further fields of the configuration.

    `sockets`: whether web sockets are accepted, which the pages need and nothing else.
    """
    import uvicorn

    return uvicorn.Config(
        app,
        lifespan="on",
        # What is installed beside must not choose how connections behave.
        loop="asyncio",
        http="h11",
        ws="websockets-sansio" if sockets else "none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
        **more,
    )
