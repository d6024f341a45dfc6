"""What runs in the process that trains one personal adapter; started by `personal.training`.

Each text is embedded by itself: in a batch its last bits would depend on its neighbours, and an
adapter that is retrained after an erasure has to equal one that never saw what was erased.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import safetensors.numpy

from personal.tasks import Failed, LoraTask, MapTask, Progress, Task, Trained
from retrieval.embedding import Embedder, EmbedderError, TextVectors, Vectors
from retrieval.personal_examples import PersonalExample, held_back_fold
from storage import niced_process

Report = Callable[[int, int], None]

FITS = 30
"""Steps that training a map counts as at most, beside one for each text."""


def main() -> None:
    line = niced_process.line_to_parent()
    task: Task = line.recv()
    threading.Thread(target=_end_with_parent, args=(line,), daemon=True).start()

    def report(done: int, total: int) -> None:
        line.send(Progress(done, total))

    try:
        trained = _train_map(task, report) if isinstance(task, MapTask) else _lora(task, report)
    except (ValueError, OSError, EmbedderError) as error:
        line.send(Failed(str(error)))
    else:
        line.send(trained)


def _end_with_parent(line: Connection) -> None:
    """Nothing more comes on the line but its end: nobody waits for a result any more."""
    try:
        line.recv()
    except (EOFError, OSError):
        os._exit(1)


def _train_map(task: MapTask, report: Report) -> Trained:
    from retrieval import personal_map

    embed = TextVectors(Embedder(task.embedder))
    texts = [*task.passages, *(example.question for example in task.examples)]
    total = len(texts) + FITS
    vectors: list[Vectors] = []
    for done, text in enumerate(texts, 1):
        vectors.append(embed([text])[0])
        report(done, total)
    passages = len(task.passages)
    material = personal_map.Material(
        passages=np.stack(vectors[:passages]),
        questions=np.stack(vectors[passages:]),
        positives=tuple(np.array(one.positives, np.int64) for one in task.examples),
        negatives=tuple(np.array(one.negatives, np.int64) for one in task.examples),
        folds=np.array([one.fold for one in task.examples], np.int64),
    )

    def report_fits(done: int, of: int) -> None:
        report(len(texts) + FITS * done // of, total)

    made = personal_map.train(material, task.basis, task.shared, report_fits)
    parameters = safetensors.numpy.save({"basis": task.basis, "weights": made.weights})
    return Trained(parameters, {"strength": made.strength}, made.before, made.after)


def _lora(task: LoraTask, report: Report) -> Trained:
    from generation import personal_lora
    from generation.answer_loss import GeneratorExample, bare_passage

    def example(one: PersonalExample) -> GeneratorExample:
        passages = tuple(bare_passage(task.passages[row]) for row in one.positives)
        return GeneratorExample(one.example_id, one.question, passages, one.answer or "")

    held_back = held_back_fold(task.examples)
    made = personal_lora.train(
        task.files,
        [example(one) for one in task.examples if one.fold != held_back],
        [example(one) for one in task.examples if one.fold == held_back],
        task.shared,
        task.seed,
        report,
    )
    config = {"adapter_config": made.config}
    return Trained(made.tensors, config, made.before, made.after)


if __name__ == "__main__":
    main()
