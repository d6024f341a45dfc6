"""Tables at a real terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

SHOW = """
from cli.output import show_table
show_table(("id", "title"), [("doc-1", "T" * {}), ("x", None)])
"""


@pytest.mark.parametrize(
    ("length", "lines"),
    [
        (20, [["id", "title"], ["doc-1", "T" * 20], ["x"]]),
        (100, [["id", "doc-1"], ["title", "T" * 73], ["T" * 27], [], ["id", "x"], []]),
    ],
)
def test_a_row_is_a_line_or_a_block_that_fits(length: int, lines: list[list[str]]) -> None:
    shown = at_terminal(80, SHOW.format(length))
    assert [line.split() for line in shown.splitlines()] == lines
    assert max(map(len, shown.splitlines())) <= 80


def at_terminal(columns: int, code: str) -> str:
    """What a program prints at a terminal of 24 lines of so many columns, without colours."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    environment = {**os.environ, "TERM": "dumb", "PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-c", code], stdout=theirs, env=environment, check=True)
    os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        found = bytearray()
        try:
            while piece := terminal.read1():
                found += piece
        except OSError:
            pass  # the other end is closed
    return found.decode().replace("\r\n", "\n")
