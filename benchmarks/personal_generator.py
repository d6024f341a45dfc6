"""The personal generator adapter on fairytaleqa: alone, and beside the shared one.

Token F1 of answers from the gold passages to the questions of `benchmarks.generator_utility`, whose
answers without an adapter and under that of epsilon 8 serve here too. A client's own adapter comes
from a few of its training questions with the code of a node, and like there it is used only if it
is better on the examples held back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.generator_answers import Quiz, lora_hash
from benchmarks.generator_utility import NORMAL, QUICK, Bench, fairytales
from benchmarks.kept import kept, make, say
from benchmarks.personal_clients import Compared, draw, examples_of, fold_of
from federation.participant.base_models import generator_identity
from federation.simulation.answers import Asked
from federation.simulation.scoring import Scores
from generation import personal_lora
from generation.adapter_files import CONFIG_FILE, TENSORS_FILE, Lora, read_lora
from generation.answer_loss import GeneratorExample, bare_passage
from generation.answer_scores import token_f1
from generation.weights import find_model
from retrieval import labelled
from retrieval.examples import Example
from storage.settings import PACKAGED

EXAMPLES = 20
QUICK_CLIENTS = 2
SEED = 0
"""Draws the examples, and the start of each adapter."""

_Key = tuple[str, str]
"""Whether an adapter is alone or one of both, and its client."""


def compare(data: Path, *, quick: bool) -> Compared:
    """Token F1 without an adapter, under the shared one, under each client's own, and under both.

    Args:
        data: the folder with fairytaleqa.
        quick: ask few questions, and tell of few clients.
    """
    folder, size = data / "fairytaleqa", QUICK if quick else NORMAL
    population = fairytales(folder, size.questions)
    tasks, names = population.tasks, population.scored_groups
    clients = names[:QUICK_CLIENTS] if quick else names
    bench = Bench(population, size)
    shared = bench.private()
    asked = [Asked(task.text, population.gold(task)) for task in tasks]
    quizzes = [Quiz(asked), Quiz(asked, [shared])]
    zero_shot, with_shared = bench.answers(quizzes, "zero-shot and shared")
    corpus = labelled.read_corpus(folder / "corpus.jsonl.gz")
    documents = {passage.text: passage.subclient or passage.id for passage in corpus}
    lessons: dict[_Key, _Lesson] = {}
    for client in clients:
        examples = draw(examples_of(population, client), EXAMPLES, SEED)
        lessons["alone", client] = _lesson(examples, documents, None)
        lessons["both", client] = _lesson(examples, documents, shared)
    better = {key: lora for key, lora in _trained(lessons).items() if lora is not None}
    places = {
        client: [place for place, task in enumerate(tasks) if task.group == client]
        for client in clients
    }
    beside: dict[str, list[Lora]] = {"alone": [], "both": [shared]}
    quizzes = [
        Quiz([asked[place] for place in places[client]], [*beside[kind], lora])
        for (kind, client), lora in better.items()
    ]
    said = {"alone": list(zero_shot), "both": list(with_shared)}
    for (kind, client), texts in zip(better, bench.answers(quizzes, "personal"), strict=True):
        for place, text in zip(places[client], texts, strict=True):
            said[kind][place] = text
    groups = np.array([names.index(task.group) for task in tasks], np.int64)

    def scores(texts: Sequence[str]) -> Scores:
        pairs = zip(texts, tasks, strict=True)
        return Scores(np.array([token_f1(text, task.answer or "") for text, task in pairs]), groups)

    return Compared(
        {client: names.index(client) for client in clients},
        scores(zero_shot),
        [scores(with_shared)],
        [scores(said["alone"])],
        [scores(said["both"])],
    )


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What an adapter is trained on, and beside which one."""

    learned: tuple[Example, ...]
    held_back: tuple[Example, ...]
    shared: Lora | None

    def facts(self) -> dict[str, Any]:
        """What the adapter follows from, beside model and code, as JSON values."""

        def told(examples: Sequence[Example]) -> list[list[Any]]:
            return [[x.example_id.hex(), x.question, x.positives, x.answer] for x in examples]

        return {
            "learned": told(self.learned),
            "held_back": told(self.held_back),
            "shared": self.shared and lora_hash(self.shared),
            "seed": SEED,
        }


def _lesson(
    examples: Sequence[Example], documents: Mapping[str, str], shared: Lora | None
) -> _Lesson:
    """Holds the first fold back that has any, as `personal_examples.held_back_fold`."""
    folds = [fold_of(documents[example.positives[0]]) for example in examples]
    paired = list(zip(folds, examples, strict=True))
    return _Lesson(
        tuple(example for fold, example in paired if fold != min(folds)),
        tuple(example for fold, example in paired if fold == min(folds)),
        shared,
    )


def _trained(lessons: Mapping[_Key, _Lesson]) -> dict[_Key, Lora | None]:
    """The adapters; None for one that is not better than nothing, which a node does not use."""
    identity = generator_identity(PACKAGED)
    files = {
        key: kept({"model": identity, **lesson.facts()}, "lora") for key, lesson in lessons.items()
    }
    work = {files[key]: partial(_train, PACKAGED, one, key) for key, one in lessons.items()}
    make(work, "personal adapters")
    found: dict[_Key, Lora | None] = {}
    for key, file in files.items():
        head, tensors = file.read_bytes().split(b"\n", 1)
        facts = json.loads(head)
        before, after = facts["before"], facts["after"]
        losses = f"loss of {len(lessons[key].held_back)} held back {before:.3f}, then {after:.3f}"
        print(f"{', '.join(key)}: {losses}", file=sys.stderr)
        files_of = {CONFIG_FILE: json.dumps(facts["config"]).encode(), TENSORS_FILE: tensors}
        found[key] = read_lora(files_of) if after < before else None
    return found


def _train(model: str, lesson: _Lesson, key: _Key) -> bytes:
    """A line of JSON, and the safetensors file."""

    def examples(some: Sequence[Example]) -> list[GeneratorExample]:
        return [
            GeneratorExample(
                x.example_id, x.question, tuple(map(bare_passage, x.positives)), x.answer or ""
            )
            for x in some
        ]

    made = personal_lora.train(
        find_model(model),
        examples(lesson.learned),
        examples(lesson.held_back),
        lesson.shared,
        SEED,
        partial(say, f"{', '.join(key)}, steps"),
    )
    facts = {"config": made.config, "before": made.before, "after": made.after}
    return json.dumps(facts).encode() + b"\n" + made.tensors
