"""A generator's answers to many questions, each asked once (`benchmarks.kept`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.kept import kept, make
from federation.participant.base_models import generator_identity
from federation.simulation.answers import Asked, answers
from generation.adapter_files import Lora

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


def lora_hash(lora: Lora) -> str:
    """SHA-256 of an adapter's files, 64 hexadecimal digits."""
    return hashlib.sha256(b"".join(lora.files().values())).hexdigest()


def _said(asked: Sequence[Asked], model: str, adapters: Sequence[Lora], most_tokens: int) -> bytes:
    return json.dumps(answers(asked, model, adapters, most_tokens)).encode()
