"""A process of this program at the lowest priority, for training, and the line to it.

The line carries pickles: both of its ends are this program, and nobody else can reach it.
"""

from __future__ import annotations

import os
import socket
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import DEVNULL, Popen

import storage

NICENESS = 19


def start(module: str) -> tuple[Popen[bytes], Connection]:
    """Start `python -m module`, which calls `line_to_parent`; returns it and this end of the line.

    It computes in one thread, so that answers stay fast and its results can be repeated.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = Popen(
            [sys.executable, "-P", "-m", module, str(theirs.fileno())],
            stdin=DEVNULL,
            env=_environment(),
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    return process, Connection(ours.detach())


def line_to_parent() -> Connection:
    """Called in the process: give way to all others, and open its end of the line."""
    os.nice(NICENESS)
    return Connection(int(sys.argv[1]))


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(Path(storage.__path__[0]).resolve().parent),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
