"""The engine thread: it alone touches the model, and runs all replies a token at a time."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import structlog
import torch
from transformers import PreTrainedModel

from generation.adapters import AdapterSet
from generation.batch import Batch, Prefill
from generation.engine import (
    EngineBusyError,
    EngineError,
    EngineEvent,
    Finished,
    FinishReason,
    GenerationRequest,
    TextDelta,
    UnknownAdapterError,
    Usage,
)
from generation.sampling import Sampler
from generation.tokens import TextStream

# Prompt tokens read between two decoding steps while others wait for their next token, and while
# nobody does: the first bounds a stall, the second how late a cancellation is seen.
_SHARED_PIECE = 128
_ALONE_PIECE = 512
# Weight of the newest measurement in the speeds that `retry_after` is computed from.
_NEWEST = 0.2

log = structlog.get_logger(__name__)


class Row:
    """One reply, from the queue to its last token."""

    def __init__(
        self,
        request: GenerationRequest,
        prompt: list[int],
        *,
        max_tokens: int,
        end_tokens: frozenset[int],
        text: TextStream,
        sampler: Sampler,
        deliver: Callable[[EngineEvent | EngineError], None],
    ) -> None:
        """`deliver` is called in the engine thread and must not block."""
        self.prompt = prompt
        self.adapters = request.adapters
        self.reply: list[int] = []
        self.cancelled = False
        self.deliver = deliver
        self._max_tokens = max_tokens
        self._end_tokens = end_tokens
        self._text = text
        self._sampler = sampler

    @property
    def remaining(self) -> int:
        """Tokens that the reply may still get."""
        return self._max_tokens - len(self.reply)

    def accept(self, logits: torch.Tensor) -> bool:
        """Choose and deliver the next token; False when it was the last."""
        token = self._sampler.next_token(self.reply, logits)
        if token in self._end_tokens:
            return self.end("stop")
        self.reply.append(token)
        text = self._text.push(token)
        if text:
            self.deliver(TextDelta(text))
        if self._text.stopped:
            return self.end("stop")
        return True if self.remaining else self.end("length")

    def end(self, reason: FinishReason) -> bool:
        """Deliver what is left of the reply as it stands; always False."""
        held = self._text.finish()
        if held:
            self.deliver(TextDelta(held))
        self.deliver(Finished(reason, Usage(len(self.prompt), len(self.reply))))
        return False


class EngineLoop:
    """Continuous batching: rows join and leave between decoding steps.

    One prompt at a time is read in pieces, between the decoding steps of the rows that are already
    speaking. All methods but the private ones are safe in any thread.
    """

    def __init__(
        self, model: PreTrainedModel, adapters: AdapterSet, max_rows: int, max_waiting: int
    ) -> None:
        """At most `max_rows` replies are made together and `max_waiting` more wait for a place."""
        self._model = model
        self._adapters = adapters
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._waiting: deque[Row] = deque()
        self._tasks: deque[Callable[[], None]] = deque()
        self._adapter_names = adapters.names
        self._unloading: dict[str, Future[None]] = {}
        self._closed = False
        self._prefill: tuple[Row, Prefill] | None = None
        self._running: list[Row] = []
        self._batch = Batch(model, adapters)
        # Measured from the first pass on; the guesses matter to nobody before.
        self._seconds_per_step = 0.1
        self._seconds_per_prompt_token = 0.005
        self._thread = threading.Thread(target=self._run, name="alcove-engine", daemon=True)
        self._thread.start()

    @property
    def adapter_names(self) -> frozenset[str]:
        return self._adapter_names

    def submit(self, row: Row) -> None:
        """Queue a row. Raises EngineBusyError, UnknownAdapterError; EngineError after `stop`."""
        with self._changed:
            if self._closed:
                raise EngineError("the generator has been shut down")
            for name in row.adapters:
                if name not in self._adapter_names:
                    raise UnknownAdapterError(name)
            if len(self._rows()) >= self._max_rows + self._max_waiting:
                raise EngineBusyError(self._seconds_until_room())
            self._waiting.append(row)
            self._changed.notify()

    def cancel(self, row: Row) -> None:
        """Give up a row: at once if it waits, else before the next step. Ended rows are let be."""
        with self._changed:
            row.cancelled = True
            if row in self._waiting:
                self._waiting.remove(row)
            self._changed.notify()

    def call(self, task: Callable[[], None]) -> "Future[None]":
        """Run `task` in the engine thread between two steps."""
        result: Future[None] = Future()

        def run() -> None:
            if not result.set_running_or_notify_cancel():
                return
            try:
                task()
            except Exception as error:
                result.set_exception(error)
                return
            with self._changed:
                self._adapter_names = self._adapters.names - self._unloading.keys()
            result.set_result(None)

        with self._changed:
            if self._closed:
                raise EngineError("the generator has been shut down")
            self._tasks.append(run)
            self._changed.notify()
        return result

    def unload(self, name: str) -> "Future[None]":
        """Refuse the adapter from now on, and drop it when the last row that uses it has ended.

        Raises UnknownAdapterError; EngineError after `stop`.
        """
        with self._changed:
            if self._closed:
                raise EngineError("the generator has been shut down")
            if name not in self._adapter_names:
                raise UnknownAdapterError(name)
            result: Future[None] = Future()
            result.set_running_or_notify_cancel()
            self._unloading[name] = result
            self._adapter_names -= {name}
            self._changed.notify()
        return result

    def stop(self) -> None:
        """End every row as cancelled, and return when the thread has gone."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        stopped = EngineError("the generator has been shut down")
        try:
            while self._next_work():
                self._drop_cancelled()
                self._drop_adapters()
                self._read_prompt()
                self._decode()
            for row in self._rows():
                row.end("cancelled")
        except Exception as error:
            with self._changed:
                self._closed = True
            _fail(self._rows(), error)
        for result in self._unloading.values():
            result.set_exception(stopped)

    def _next_work(self) -> bool:
        """Wait until there is something to do; False when the engine is to stop."""
        with self._changed:
            while not (self._closed or self._tasks or self._unloading or self._rows()):
                self._changed.wait()
            tasks, self._tasks = self._tasks, deque()
            if self._prefill is None and self._waiting and len(self._running) < self._max_rows:
                row = self._waiting.popleft()
                self._prefill = row, Prefill(self._model, self._adapters, row.prompt, row.adapters)
        for task in tasks:
            task()
        return not self._closed

    def _rows(self) -> list[Row]:
        # A row that another thread sees on its way from reading to running counts once.
        reading = [prefill[0]] if (prefill := self._prefill) else []
        return list(dict.fromkeys([*self._waiting, *reading, *self._running]))

    def _drop_cancelled(self) -> None:
        if self._prefill and self._prefill[0].cancelled:
            self._prefill = None
        self._keep([not row.cancelled for row in self._running])

    def _drop_adapters(self) -> None:
        with self._changed:
            used = {name for row in self._rows() for name in row.adapters}
            unused = {
                name: self._unloading.pop(name)
                for name in list(self._unloading)
                if name not in used
            }
        for name, result in unused.items():
            self._adapters.unload(name)
            result.set_result(None)

    @torch.inference_mode()
    def _read_prompt(self) -> None:
        if self._prefill is None:
            return
        row, prefill = self._prefill
        piece = min(_SHARED_PIECE if self._running else _ALONE_PIECE, prefill.remaining)
        started = time.monotonic()
        try:
            logits = prefill.advance(piece)
        except Exception as error:
            self._prefill = None
            _fail([row], error)
            return
        seconds = (time.monotonic() - started) / piece
        self._seconds_per_prompt_token += _NEWEST * (seconds - self._seconds_per_prompt_token)
        if logits is None:
            return
        if _accept(row, logits):
            self._running.append(row)
            try:
                self._batch.join(prefill, row.adapters)
            except Exception as error:
                self._fail_batch(error)
        self._prefill = None

    @torch.inference_mode()
    def _decode(self) -> None:
        if not self._running:
            return
        started = time.monotonic()
        try:
            logits = self._batch.step([row.reply[-1] for row in self._running])
        except Exception as error:
            self._fail_batch(error)
            return
        self._keep(
            [_accept(row, scores) for row, scores in zip(self._running, logits, strict=True)]
        )
        self._seconds_per_step += _NEWEST * (time.monotonic() - started - self._seconds_per_step)

    def _fail_batch(self, error: Exception) -> None:
        _fail(self._running, error)
        self._running = []
        self._batch = Batch(self._model, self._adapters)

    def _keep(self, going_on: list[bool]) -> None:
        if all(going_on):
            return
        kept = [index for index, going in enumerate(going_on) if going]
        self._batch.keep(kept)
        self._running = [self._running[index] for index in kept]

    def _seconds_until_room(self) -> int:
        """When the first waiting row will be taken up at the latest, at the speed of late."""
        prefill, running = self._prefill, list(self._running)
        seconds = prefill[1].remaining * self._seconds_per_prompt_token if prefill else 0.0
        speaking = [*running, prefill[0]] if prefill else running
        if len(speaking) >= self._max_rows:
            seconds += min(row.remaining for row in speaking) * self._seconds_per_step
        return max(1, math.ceil(seconds))


def _accept(row: Row, logits: torch.Tensor) -> bool:
    try:
        return row.accept(logits)
    except Exception as error:
        _fail([row], error)
        return False


def _fail(rows: list[Row], error: Exception) -> None:
    log.error("generation failed", rows=len(rows), exc_info=error)
    for row in rows:
        row.deliver(EngineError("the generator failed; the node's log says why"))
