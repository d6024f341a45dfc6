"""What takes minutes to make, kept in the user's cache under what it follows from.

A file is named by a hash of its inputs, code included, so that a run that was interrupted goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from federation.simulation.results import hash_of
from generation.weights import user_cache

PROCESSES = len(os.sched_getaffinity(0))


def kept(inputs: Mapping[str, Any], ending: str) -> Path:
    """The file of what follows from these JSON values and the code."""
    return user_cache() / "utility" / f"{hash_of(inputs)}.{ending}"


def make(work: Mapping[Path, Callable[[], bytes]], told: str) -> None:
    """Write the files that are missing, in several processes.

    Args:
        work: returns the content of each file; sent to a process.
        told: what stderr calls the files.
    """
    missing = {file: content for file, content in work.items() if not file.is_file()}
    if not missing:
        return
    done = len(work) - len(missing)
    say(told, done, len(work))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, _one_thread) as pool:
        pending = {pool.submit(content): file for file, content in missing.items()}
        for future in as_completed(pending):
            write(pending[future], future.result())
            done += 1
            say(told, done, len(work))


def write(file: Path, data: bytes) -> None:
    """As a whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial_file = file.with_suffix(".part")
    partial_file.write_bytes(data)
    partial_file.replace(file)


_said_at: dict[str, float] = {}
"""When each stage was last told of."""


def say(stage: str, done: int, total: int) -> None:
    """To stderr, at most every ten seconds a stage."""
    now = time.monotonic()
    if done in (0, total) or now - _said_at.get(stage, 0.0) > 10.0:
        _said_at[stage] = now
        print(f"{stage}: {done} of {total}", file=sys.stderr, flush=True)


def _one_thread() -> None:
    """With more in each process, threads that wait for each other fight over a busy machine."""
    torch.set_num_threads(1)
    threadpool_limits(1)
