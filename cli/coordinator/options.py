"""Which coordinator a command speaks to."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import httpx

DEFAULT_HOME = Path("~/.alcove-coordinator")


def _absolute(home: Path) -> Path:
    return home.expanduser().absolute()


Home = Annotated[
    Path,
    typer.Option(
        "--home", envvar="ALCOVE_COORDINATOR_HOME", help="The coordinator's folder.",
        metavar="DIR", callback=_absolute,
    ),
]  # fmt: skip
Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="ALCOVE_COORDINATOR_URL",
        help="A coordinator on another machine; needs --key. Without it: the one in --home.",
    ),
]  # fmt: skip
Key = Annotated[
    str | None,
    typer.Option("--key", envvar="ALCOVE_COORDINATOR_KEY", help="Your key at --url."),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        "--certificate", envvar="ALCOVE_COORDINATOR_CERTIFICATE", exists=True, dir_okay=False,
        help="The server's own certificate (PEM), to trust it and no other.",
    ),
]  # fmt: skip
Population = Annotated[
    str | None, typer.Option("--population", help="Only those of this population.", metavar="NAME")
]


@dataclass(frozen=True, slots=True)
class Place:
    """The coordinator that a command speaks to; its fields are options (`at_coordinator`)."""

    home: Home = DEFAULT_HOME
    url: Url = None
    key: Key = field(default=None, repr=False)
    certificate: Certificate = None

    def client(self) -> AbstractContextManager[httpx.Client]:
        """See `cli.coordinator.client.coordinator_client`."""
        from cli.coordinator.client import coordinator_client

        return coordinator_client(self)


def at_coordinator(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the options of a `Place`, after its own, instead of its first parameter."""
    options = inspect.signature(Place, eval_str=True).parameters
    _place, *own = inspect.signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def run(**given: Any) -> None:
        place = Place(**{name: given.pop(name) for name in options})
        command(place, **given)

    run.__signature__ = inspect.Signature([*own, *options.values()])  # type: ignore[attr-defined]
    return run
