"""How commands reach a coordinator: over HTTP, with a key or as whoever may read its folder."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from cli.client import Address, open_client, pinned, running_server
from cli.coordinator.options import Place
from cli.errors import WRONG_USAGE, CommandError, os_error_message
from storage.coordinator_home import CoordinatorHome
from storage.settings import LOOPBACK

WHAT = "coordinator"


@contextmanager
def coordinator_client(at: Place) -> Iterator[httpx.Client]:
    """A client for the time of a command; a response that is no success raises RefusedError.

    Raises:
        CommandError: there is no coordinator, none is served, or it stopped answering.
    """
    if at.url is None:
        address = local_address(at.home)
        if address is None:
            raise CommandError(
                f"the coordinator in {at.home} is not served: run `alcove coordinator serve`, or "
                "name another with --url and --key"
            )
        with open_client(address, what=WHAT) as client:
            yield client
        return
    if at.key is None:
        raise CommandError("--url needs --key, a key of yours at that coordinator", WRONG_USAGE)
    _check_url(at.url)
    with open_client(
        Address(at.url, at.key, None), what=WHAT, trust=_trust(at.certificate)
    ) as client:
        yield client


def local_address(home: Path) -> Address | None:
    """Where the coordinator of the folder is served; None if it is not.

    Raises:
        CommandError: there is no coordinator in the folder.
    """
    folder = CoordinatorHome(home)
    if not folder.exists():
        raise CommandError(
            f"there is no coordinator in {home}: run `alcove coordinator init`, or name another "
            "with --url and --key"
        )
    return running_server(folder)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise CommandError(f"--url: {url!r} is no address: {error}", WRONG_USAGE) from error
    if parts.scheme not in ("http", "https") or not host:
        raise CommandError(f"--url: {url!r} is no address; give one like https://host", WRONG_USAGE)
    if parts.scheme == "http" and host not in LOOPBACK:
        raise CommandError(
            f"--url: the key would go to {host} in the clear; use https://", WRONG_USAGE
        )


def _trust(certificate: Path | None) -> ssl.SSLContext:
    if certificate is None:
        return ssl.create_default_context()
    try:
        return pinned(certificate.read_text())
    except OSError as error:
        raise CommandError(os_error_message(error)) from error
    except ValueError as error:
        raise CommandError(f"{certificate} is no certificate (PEM)") from error
