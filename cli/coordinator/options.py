"""Which coordinator a command speaks to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
