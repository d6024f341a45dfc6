"""Options that several commands have."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.errors import WRONG_USAGE, CommandError

DEFAULT_HOME = Path("~/.alcove")


def _absolute(home: Path) -> Path:
    return home.expanduser().absolute()


Home = Annotated[
    Path,
    typer.Option(
        "--home", envvar="ALCOVE_HOME", help="The node's folder.", metavar="DIR", callback=_absolute
    ),
]
AssistantName = Annotated[
    str, typer.Option("--assistant", help="The assistant, by its name.", metavar="NAME")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for a confirmation.")]


def json_object(option: str, given: str | None) -> dict[str, Any] | None:
    """The value of an option that takes a JSON object.

    Raises:
        typer.BadParameter: it is none.
    """
    if given is None:
        return None
    try:
        value = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint=option) from error
    if not isinstance(value, dict):
        raise typer.BadParameter(
            'not a JSON object, such as {"name": "report.pdf"}', param_hint=option
        )
    return value


def given(**wanted: Any) -> dict[str, Any]:
    """What is not None."""
    return {name: value for name, value in wanted.items() if value is not None}


def confirm(question: str, yes: bool) -> None:
    """Go on only if the user agrees.

    Raises:
        CommandError: there is nobody to ask.
        typer.Abort: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError("this cannot be undone: confirm it with --yes", WRONG_USAGE)
    typer.confirm(question, abort=True, err=True)
