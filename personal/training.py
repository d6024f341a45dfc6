"""One training in a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from personal.tasks import Failed, Progress, Task, Trained
from storage import niced_process


class TrainingFailedError(Exception):
    """Nothing was trained; the message says why."""


class TrainingStoppedError(Exception):
    """`Training.stop` was called."""


class Training:
    """Trains one adapter. `stop` may be called in any thread."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._lock = threading.Lock()
        self._stopped = False
        self._stop: Callable[[], None] = lambda: None

    def run(self, report: Callable[[int, int], None]) -> Trained:
        """Wait for the adapter; `report` is told how many of how many steps are done.

        Raises:
            TrainingFailedError: the process could not, or died.
            TrainingStoppedError: it was ended, and whatever it knew with it.
        """
        with self._lock:
            if self._stopped:
                raise TrainingStoppedError
            process, line = niced_process.start("personal.training_process")
            self._stop = process.kill
        try:
            with line:
                line.send(self._task)
                while True:
                    message = line.recv()
                    if isinstance(message, Progress):
                        report(message.done, message.total)
                    elif isinstance(message, Failed):
                        raise TrainingFailedError(message.reason)
                    elif isinstance(message, Trained):
                        return message
        except (EOFError, OSError) as error:
            with self._lock:
                if self._stopped:
                    raise TrainingStoppedError from error
            status = process.wait()
            raise TrainingFailedError(f"its process ended with status {status}") from error
        finally:
            with self._lock:
                self._stop = lambda: None
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End the process at once, for good."""
        with self._lock:
            self._stopped = True
            self._stop()
