"""What a command prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """`text` without the control characters by which a document could drive the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def message_console() -> Console:
    """For progress, hints and warnings."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


@contextmanager
def stage_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage that is reported, with what is done of how much; 0 if unknown."""
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

    console = message_console()
    columns = (TextColumn("{task.description:18}"), BarColumn(), TextColumn("{task.completed}"))
    stages: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total or None)
            bars.update(stages[stage], completed=done)

        yield report


def say(text: str) -> None:
    """Print a hint or a warning."""
    print(clean(text), file=sys.stderr, flush=True)  # noqa: T201


def show(text: str) -> None:
    """Print a line of the result."""
    print(clean(text), flush=True)  # noqa: T201


def show_json(value: Any) -> None:
    """Print the one JSON document of a command."""
    print(json.dumps(value, ensure_ascii=False, indent=2), flush=True)  # noqa: T201


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows, for a pipe with tabs between the cells; None is an empty cell.

    Where a terminal is too narrow for a line each, every row is a block of named cells.
    """
    cells = [["" if cell is None else clean(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in (columns, *cells):
            print("\t".join(" ".join(cell.split()) for cell in row))  # noqa: T201
        return
    console = Console(highlight=False, markup=False, emoji=False)
    table = Table(*columns, box=None, header_style="bold", padding=(0, 2, 0, 0))
    for row in cells:
        table.add_row(*row)
    # Measured for a terminal without an end, since it never is wider than the terminal.
    endless = console.options.update(max_width=sys.maxsize)
    if console.measure(table, options=endless).maximum <= console.width:
        console.print(table)
        return
    for row in cells:
        block = Table.grid(padding=(0, 2, 0, 0))
        block.add_column(style="bold")
        block.add_column(overflow="fold")
        for column, cell in zip(columns, row, strict=True):
            if cell:
                block.add_row(column, cell)
        console.print(block, "")


def when(seconds: int | None) -> str | None:
    """A time of the API, seconds since the epoch, in local time."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def show_withdrawn(versions: Iterable[dict[str, Any]]) -> None:
    """Print which personal versions went out of service with what was erased."""
    for one in versions:
        after = "" if one["job"] is None else f"; {one['job']} trains the next"
        show(
            f"Personal {one['kind']} version {one['version']} is out of service since"
            f" {when(one['off_at'])}{after}."
        )
