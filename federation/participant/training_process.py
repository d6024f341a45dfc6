"""What runs in the training process: texts of one subject after another to rows.

Started by `federation.participant.trainer` with the number of a socket. Each text is embedded by
itself: in a batch its last bits would depend on its neighbours, and with them a subject's row on
other subjects.
"""

from __future__ import annotations

import secrets
from multiprocessing.connection import Connection
from typing import Any

from federation.adapter_spec import AdapterKind
from federation.participant.trainer import (
    LossesDone,
    LossTask,
    RoundDone,
    RoundTask,
    RowDone,
    TrainingTask,
)
from federation.rows import NODE, GeneratorRows, MapRows, Rows
from retrieval.embedding import Embedder, TextVectors
from storage import niced_process


def open_rows(task: TrainingTask) -> Rows[Any]:
    """Loads the model that the plan adapts; takes seconds."""
    if task.plan.adapter.kind is AdapterKind.RETRIEVER:
        vectors = TextVectors(Embedder(task.model))
        return MapRows(task.plan, task.basis, task.public_texts, vectors)
    return GeneratorRows(task.plan, task.basis, task.public_texts, task.model)


def main() -> None:
    line = niced_process.line_to_parent()
    task: TrainingTask = line.recv()
    rows = open_rows(task)
    while True:
        try:
            _answer(line, line.recv(), task, rows)
        except (EOFError, BrokenPipeError):
            return


def _answer(
    line: Connection, wanted: RoundTask | LossTask, task: TrainingTask, rows: Rows[Any]
) -> None:
    if isinstance(wanted, RoundTask):
        _train(line, wanted, task, rows)
    elif isinstance(rows, GeneratorRows):
        losses = tuple(rows.loss(wanted.examples, vector) for vector in wanted.vectors)
        line.send(LossesDone(wanted.round_id, losses))
    else:
        raise TypeError("a query map is tried by what it finds, not by a loss")


def _train(line: Connection, round_task: RoundTask, task: TrainingTask, rows: Rows[Any]) -> None:
    round_id, vector = round_task.round_id, round_task.vector
    subjects = ((name, rows.prepare(examples)) for name, examples in round_task.subjects)
    if task.plan.rows_are_gradients:
        for row_id, row in rows.of_subjects(subjects, vector):
            line.send(RowDone(round_id, row_id, row))
    else:
        every = [example for _, own in subjects for example in own]
        row = rows.of_node(every, vector, secrets.randbits(64))
        line.send(RowDone(round_id, NODE, row))
    line.send(RoundDone(round_id))


if __name__ == "__main__":
    main()
