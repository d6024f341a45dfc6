"""Training in one long-lived process per federation, so that answers stay fast.

The process runs at the lowest priority, keeps its model loaded from round to round, and hands each
row over as soon as it is done. What is not done when the upload is due is simply not there: a
missing row is a zero row.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np
import structlog
from numpy.typing import NDArray

from federation.plan import FederationPlan
from federation.rows import Row
from retrieval.examples import Example
from storage import niced_process

log = structlog.get_logger()

Examples = Sequence[tuple[bytes, tuple[Example, ...]]]


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """What all rounds of a plan have in common, for the training process.

    Attributes:
        plan: whose terms are followed.
        basis: the file with the fixed factor A.
        public_texts: the plan's public passages.
        model: the embedder or generator as the node's settings name it.
    """

    plan: FederationPlan
    basis: bytes = field(repr=False)
    public_texts: tuple[str, ...] = field(repr=False)
    model: str


@dataclass(frozen=True, slots=True)
class RoundTask:
    """One round: the vector to train from, float32 (d,), and each subject with its examples."""

    round_id: str
    vector: NDArray[np.float32] = field(repr=False)
    subjects: tuple[tuple[bytes, tuple[Example, ...]], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RowDone:
    """A finished row of a round."""

    round_id: str
    row_id: bytes
    row: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RoundDone:
    """No more rows of this round will come."""

    round_id: str


@dataclass(frozen=True, slots=True)
class LossTask:
    """Examples, and vectors of float32 (d,), of each of which the mean loss is wanted."""

    round_id: str
    vectors: tuple[NDArray[np.float32], ...] = field(repr=False)
    examples: tuple[Example, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LossesDone:
    """The mean loss at each vector of a `LossTask`."""

    round_id: str
    losses: tuple[float, ...] = field(repr=False)


class Trainer:
    """The training process of one federation; started when needed. Safe in any thread."""

    def __init__(self, task: TrainingTask) -> None:
        self._task = task
        self._lock = threading.Lock()
        self._finished = threading.Condition(self._lock)
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection | None = None
        self._round_id = ""
        self._busy = False
        self._closed = False
        self._rows: list[Row] = []
        self._losses: tuple[float, ...] | None = None
        self._is_stale = False
        self._erasures = 0

    def start(self) -> None:
        """Start the process, which takes seconds to load its model."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()

    def begin(
        self, round_id: str, vector: NDArray[np.float32], read: Callable[[], Examples]
    ) -> None:
        """Train for a round; one that is still being trained for is given up. Not once closed.

        Args:
            vector: that the round starts from, float32, shape (d,).
            read: ids and examples of the subjects whose rows are wanted; all in mode `client`.
                Called again if something was erased meanwhile.
        """
        while True:
            erasures = self._erasures
            subjects = read()
            with self._lock:
                if self._closed:
                    return
                if erasures != self._erasures:
                    continue
                if self._busy:
                    self._stop()
                self._round_id, self._rows, self._busy = round_id, [], bool(subjects)
                break
        if subjects:
            self._send(RoundTask(round_id, vector, tuple(subjects)))

    def begin_losses(
        self, name: str, vectors: tuple[NDArray[np.float32], ...], examples: Sequence[Example]
    ) -> None:
        """Compute the mean loss of examples, at least one, at each vector, shape (d,), float32.

        For a trainer of its own, which trains for no round.
        """
        with self._lock:
            self._round_id, self._busy, self._losses = name, True, None
        self._send(LossTask(name, vectors, tuple(examples)))

    def losses(self) -> tuple[float, ...] | None:
        """What `begin_losses` asked for; None if it is not done, or the process has died."""
        with self._lock:
            return self._losses

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        with self._lock:
            return self._process is not None and self._process.poll() is None

    @property
    def is_busy(self) -> bool:
        """Whether something that was begun is not done."""
        with self._lock:
            return self._busy

    def rows(self, round_id: str) -> list[Row]:
        """The rows of a round that are done by now, in the order of their ids."""
        with self._lock:
            return sorted(self._rows, key=lambda row: row[0]) if round_id == self._round_id else []

    def wait(self, round_id: str, seconds: float) -> bool:
        """Whether all rows of a round were done within `seconds`."""
        with self._lock:
            return self._finished.wait_for(
                lambda: round_id == self._round_id and not self._busy, seconds
            )

    def forget(self) -> None:
        """End the process, at once or when its round is done: it may hold texts that were erased.

        The next round starts another one.
        """
        with self._lock:
            self._erasures += 1
            if self._busy:
                self._is_stale = True
            else:
                self._stop()

    def close(self) -> None:
        """End the process for good."""
        with self._lock:
            self._closed = True
            self._stop()

    def _send(self, task: RoundTask | LossTask) -> None:
        with self._lock:
            if self._closed:
                return
            if self._process is None or self._process.poll() is not None:
                self._start()
            line = self._line
        if line is not None:
            try:
                line.send(task)
            except OSError:
                log.exception("the training process died")

    def _start(self) -> None:
        module = "federation.participant.training_process"
        self._process, self._line = niced_process.start(module)
        self._line.send(self._task)
        threading.Thread(
            target=self._read, args=(self._line, self._process), name="training", daemon=True
        ).start()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._line = None
        self._busy = self._is_stale = False

    def _read(self, line: Connection, process: subprocess.Popen[bytes]) -> None:
        """Take rows over until the process ends; only this thread closes its end of the line."""
        with line:
            while True:
                try:
                    message = line.recv()
                except (EOFError, OSError):
                    break
                with self._lock:
                    if message.round_id != self._round_id or process is not self._process:
                        continue
                    if isinstance(message, RowDone):
                        self._rows.append((message.row_id, message.row))
                        continue
                    if isinstance(message, LossesDone):
                        self._losses = message.losses
                    self._busy = False
                    if self._is_stale:
                        self._stop()
                    self._finished.notify_all()
        with self._lock:
            if process is self._process and self._busy:
                log.error("training stopped", status=process.wait())
                self._busy = False
                self._finished.notify_all()
