"""How commands reach the node: always over HTTP, whether a server runs on its folder or not."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from urllib.parse import quote

import httpx

from cli.errors import CommandError, readable_home_errors, readable_settings_errors
from cli.output import message_console
from storage.home import HomeBusyError, HomeError, NodeHome, ServedHome

CONNECT_SECONDS = 10.0
POLL_SECONDS = 0.2


class RefusedError(CommandError):
    """A server refused a request. `status` is HTTP's, `retry_after` in seconds."""

    def __init__(self, message: str, status: int, code: str, retry_after: float) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Address:
    """A running server, as it announced itself: its session key, its certificate (PEM) if any."""

    url: str
    key: str = field(repr=False)
    certificate: str | None


class Need(Enum):
    """What a command waits for."""

    MODELS = auto()
    ASSISTANTS = auto()  # the first start of a node loads the models to make the first one
    NOTHING = auto()


@contextmanager
def node_client(home: Path, need: Need = Need.MODELS) -> Iterator[httpx.Client]:
    """A client with the rights of the node's owner, for the time of a command.

    It speaks to the server that runs on the folder. Where none runs, this process opens the folder
    and serves it on a free loopback port for as long. A response that is no success raises
    RefusedError.

    Raises:
        CommandError: there is no node, it cannot start, it is busy, or it stopped answering.
    """
    place = NodeHome(home)
    try:
        place.require()
        address = running_server(place)
    except HomeError as error:
        raise CommandError(str(error)) from error
    if address is None:
        with _own_server(home, need) as client:
            yield client
    else:
        with open_client(address) as client:
            if need is not Need.NOTHING:
                _wait_until_ready(client, lambda: None)
            yield client


def quoted(name: str) -> str:
    """A name or an id as one segment of a path."""
    return quote(name, safe="")


def assistant_path(name: str, below: str = "") -> str:
    """The path of an assistant, or of what lies `below` it, such as "/documents"."""
    return f"/v1/assistants/{quoted(name)}{below}"


def running_server(home: ServedHome) -> Address | None:
    """Where the server of the folder listens; None if there is none.

    The file that one left behind that crashed is recognised, and removed: the folder's lock is
    free.

    Raises:
        CommandError: the file is damaged.
    """
    try:
        content = home.address.read_bytes()
    except FileNotFoundError:
        return None
    try:
        with home.lock():
            home.withdraw()
            return None
    except HomeBusyError:
        pass
    try:
        announced = json.loads(content)
        return Address(announced["url"], announced["key"], announced["certificate"])
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{home.address} is damaged: restart the server") from error


@contextmanager
def _own_server(home: Path, need: Need) -> Iterator[httpx.Client]:
    from storage.settings import NodeSettings

    with readable_settings_errors(home):
        settings = NodeSettings(home=home)

    from api.node.node import Node
    from cli import logs
    from cli.listening import listen
    from cli.server import NodeServer

    logs.configure("command")
    with readable_home_errors(home):
        node = Node(settings)
    load = need is Need.MODELS or (need is Need.ASSISTANTS and node.is_fresh())
    with NodeServer(node, listen("127.0.0.1", 0), load=load) as server:
        address = Address(server.url, node.session_key.get_secret_value(), None)
        with open_client(address) as client:
            if load:
                _wait_until_ready(client, server.check)
            yield client


@contextmanager
def open_client(
    address: Address, *, what: str = "node", trust: ssl.SSLContext | None = None
) -> Iterator[httpx.Client]:
    """A client of a server, a node where `what` says nothing else.

    Without `trust` no certificate is accepted but the server's own, as it has announced it.
    """
    client = httpx.Client(
        base_url=address.url,
        headers={"Authorization": f"Bearer {address.key}"},
        verify=trust or pinned(address.certificate),
        timeout=httpx.Timeout(CONNECT_SECONDS, read=None),
        # Not through a proxy that the environment names.
        trust_env=False,
        event_hooks={"response": [_refuse]},
    )
    with client:
        try:
            yield client
        except httpx.TransportError as error:
            raise CommandError(
                f"the {what} at {address.url} stopped answering: {error or type(error).__name__}"
            ) from error


def pinned(certificate: str | None) -> ssl.SSLContext:
    """Trust the server's own certificate and no other, whatever name it is for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if certificate is not None:
        context.load_verify_locations(cadata=certificate)
    return context


def _refuse(response: httpx.Response) -> None:
    if not response.is_error:
        return
    response.read()
    try:
        error = response.json()["error"]
        message, code = str(error["message"]), str(error["code"])
    except (ValueError, KeyError, TypeError):
        message, code = f"the server answered {response.status_code}", "http_error"
    retry_after = float(response.headers.get("Retry-After", 1))
    raise RefusedError(message, response.status_code, code, retry_after)


def _wait_until_ready(client: httpx.Client, check: Callable[[], None]) -> None:
    with message_console().status("loading the models"):
        while True:
            try:
                client.get("/ready")
            except RefusedError as error:
                if error.status != 503:
                    raise
                check()
                time.sleep(POLL_SECONDS)
            else:
                return
