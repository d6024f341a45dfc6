"""What takes a generator minutes, kept in the user's cache under what it follows from.

A file is named by a hash of its inputs, code included, so that a run that was interrupted goes on.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from federation.participant.base_models import generator_identity
from federation.simulation.answers import Asked, answers
from federation.simulation.results import hash_of
from generation.adapter_files import Lora
from generation.weights import user_cache

PROCESSES = len(os.sched_getaffinity(0))
ANSWERS_AT_ONCE = 25
"""Of one file."""


@dataclass(frozen=True, slots=True)
class Quiz:
    """Questions, and the adapters that they are answered under: none, one or two."""

    asked: Sequence[Asked]
    adapters: Sequence[Lora] = ()


class Answers:
    """Greedy answers of a generator, from the cache or made now, of at most `most_tokens` each."""

    def __init__(self, model: str, most_tokens: int) -> None:
        """`model` as in `find_model`."""
        self._model = model
        self._identity = generator_identity(model)
        self._most_tokens = most_tokens

    def __call__(self, quizzes: Sequence[Quiz], told: str) -> list[list[str]]:
        """The answers of each quiz; `told` is what stderr calls them all."""
        work: dict[Path, Callable[[], bytes]] = {}
        files: list[list[Path]] = []
        for quiz in quizzes:
            files.append([])
            for start in range(0, len(quiz.asked), ANSWERS_AT_ONCE):
                part = quiz.asked[start : start + ANSWERS_AT_ONCE]
                file = self._file(part, quiz.adapters)
                work[file] = partial(_said, part, self._model, quiz.adapters, self._most_tokens)
                files[-1].append(file)
        make(work, f"answers, {told}, parts")
        return [[text for file in own for text in json.loads(file.read_bytes())] for own in files]

    def _file(self, asked: Sequence[Asked], adapters: Sequence[Lora]) -> Path:
        inputs = {
            "asked": [asdict(one) for one in asked],
            "model": self._identity,
            "adapters": [lora_hash(lora) for lora in adapters],
            "most_tokens": self._most_tokens,
        }
        return kept(inputs, "json")


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
    # A thread each: with more, threads that wait for each other fight over a busy machine.
    with ProcessPoolExecutor(PROCESSES, context, torch.set_num_threads, (1,)) as pool:
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


def lora_hash(lora: Lora) -> str:
    """SHA-256 of an adapter's files, 64 hexadecimal digits."""
    return hashlib.sha256(b"".join(lora.files().values())).hexdigest()


_said_at: dict[str, float] = {}
"""When each stage was last told of."""


def say(stage: str, done: int, total: int) -> None:
    """To stderr, at most every ten seconds a stage."""
    now = time.monotonic()
    if done in (0, total) or now - _said_at.get(stage, 0.0) > 10.0:
        _said_at[stage] = now
        print(f"{stage}: {done} of {total}", file=sys.stderr, flush=True)


def _said(asked: Sequence[Asked], model: str, adapters: Sequence[Lora], most_tokens: int) -> bytes:
    return json.dumps(answers(asked, model, adapters, most_tokens)).encode()
