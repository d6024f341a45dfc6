"""The processes that a process has started."""

from __future__ import annotations

from contextlib import suppress

import psutil

from tests.forked import commands


def children_with(word: str, parent: int | None = None) -> list[psutil.Process]:
    """Those of the parent (this process, unless told) that run and have the word in a command's
    part."""
    found = []
    for child in psutil.Process(parent).children():
        # One may end, or wait for its parent's last look, between the listing and the question.
        with suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_ZOMBIE:
                continue
            if any(word in part for part in commands.get(child.pid) or child.cmdline()):
                found.append(child)
    return found
