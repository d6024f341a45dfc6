"""The real command in a real process, as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests import forked
from tests.forked import ENVIRONMENT

ALCOVE = (sys.executable, "-m", "cli.main")
SECONDS = 240


def run(
    *arguments: str | Path, home: Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `home` is given to it as --home."""
    options.setdefault("stdin", subprocess.DEVNULL)
    environment = {**ENVIRONMENT, **options.pop("environment", {})}
    return forked.run(command(*arguments, home=home), SECONDS, env=environment, **options)


def command(*arguments: str | Path, home: Path | None) -> list[str]:
    place = () if home is None else ("--home", home)
    return [str(part) for part in (*ALCOVE, *arguments, *place)]


def run_json(*arguments: str | Path, home: Path | None = None) -> Any:
    """What it prints with --json; standard output must be that document and nothing else."""
    done = run(*arguments, "--json", home=home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one readable line of a command that failed."""
    assert done.returncode == code, (done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("alcove: "), done.stderr
    return lines[0].removeprefix("alcove: ")
