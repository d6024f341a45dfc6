"""Errors of the command line: one readable line each, and the exit code."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130


class CommandError(typer.TyperException):
    """A command that cannot do what was asked; the message says why, a reason a line."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def os_error_message(error: OSError) -> str:
    """What the system refused, and for which file."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{os.fsdecode(error.filename)}: {reason}" if error.filename is not None else reason


@contextmanager
def readable_settings_errors(home: Path, prefix: str = "ALCOVE_") -> Iterator[None]:
    """Raise CommandError with a line for each entry that a server's settings refuse."""
    from pydantic import ValidationError

    try:
        yield
    except tomllib.TOMLDecodeError as error:
        raise CommandError(f"{home / 'settings.toml'} is not TOML: {error}") from error
    except ValidationError as error:
        lines = []
        for detail in error.errors(include_input=False):
            message = detail["msg"].removeprefix("Value error, ")
            if not detail["loc"]:
                lines.append(f"settings: {message}")
                continue
            name = str(detail["loc"][0])
            variable = f"{prefix}{name.upper()}"
            place = variable if variable in os.environ else str(home / "settings.toml")
            known = "there is no such setting" if detail["type"] == "extra_forbidden" else message
            lines.append(f"{place}: {name}: {known}")
        raise CommandError("\n".join(lines)) from error


@contextmanager
def readable_home_errors(home: Path, database: str = "node.db") -> Iterator[None]:
    """Raise CommandError where the folder, or the database in it, cannot be used."""
    from alembic.util.exc import CommandError as MigrationError
    from sqlalchemy.exc import DatabaseError

    from storage.home import HomeBusyError, HomeError

    try:
        yield
    except HomeBusyError as error:
        raise CommandError(
            f"{error}: wait for it to end, or run `alcove node serve`, which any number of "
            "commands may use at once"
        ) from error
    except HomeError as error:
        raise CommandError(str(error)) from error
    except DatabaseError as error:
        raise CommandError(f"{home / database} cannot be used: {error.orig}") from error
    except MigrationError as error:
        raise CommandError(
            f"{home / database} was not made by this version of alcove: {error}"
        ) from error
