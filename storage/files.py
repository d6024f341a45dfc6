"""Files that outlast a crash, are their owner's alone, or are held by one process."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def new_private(path: Path) -> Iterator[BinaryIO]:
    """A new file, mode 0600, to write to; its content is durable at the end, its name is not yet.

    Raises:
        FileExistsError: there is something of this name.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def write_private(path: Path, content: bytes) -> None:
    """Replace a file atomically and durably, mode 0600."""
    partial = path.with_name(path.name + ".tmp")
    partial.unlink(missing_ok=True)
    with new_private(partial) as stream:
        stream.write(content)
    partial.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Make a file's content durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove whatever has this name: a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=_unless_gone)
    else:
        path.unlink(missing_ok=True)


def _unless_gone(_function: object, _path: str, failure: Any) -> None:
    """Whoever removes a file at the same moment does the same work."""
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]


def lock(descriptor: int, *, wait: bool) -> bool:
    """Lock an open file for this process until it is closed, at the latest by the process's end.

    Returns whether it holds the lock: False only if another process does and `wait` is False.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
