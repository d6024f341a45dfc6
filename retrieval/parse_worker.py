"""Parsing at arm's length: a niced process with limits, which a hostile file may kill."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args, get_type_hints

import retrieval
from retrieval.chunking import Chunk
from retrieval.frames import (
    OUT_OF_MEMORY_STATUS,
    FrameError,
    FrameReader,
    FrameTimeoutError,
    write_frame,
)
from retrieval.parsing.records import ParseError, ParseErrorCode, ParseLimits

_START_SECONDS = 60
_REQUESTS_PER_PROCESS = 100  # parsers written in C and Rust may keep memory
_LONGEST_NAME = 1_000
_RESULT_BYTES_PER_CHARACTER = 16
_SMALLEST_RESULT_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class ChunkedDocument:
    """A parsed file, ready to be embedded. `pages` is None for formats without pages."""

    media_type: str
    title: str | None
    pages: int | None
    characters: int
    chunks: tuple[Chunk, ...]


class WorkerClosedError(Exception):
    """The worker was closed before the file was parsed; the file is not at fault."""


class ParseWorker:
    """A process of its own that parses one file after another; it starts when first needed.

    The process is niced and bounded in memory and time (`ParseLimits`), gets neither open files
    nor environment from this one, and can neither write files, start programs nor use the
    network. It is replaced after a crash, a timeout, or when its memory ran out. Any thread may
    call: files are taken one at a time.

    `tokenizer_file` and `max_tokens` are those of `retrieval.chunking.Chunker`.
    """

    def __init__(self, limits: ParseLimits, tokenizer_file: Path, max_tokens: int) -> None:
        self._limits = limits
        self._setup = {
            "limits": asdict(limits),
            "tokenizer_file": str(tokenizer_file.resolve()),
            "max_tokens": max_tokens,
        }
        self._turn = threading.Lock()
        self._state = threading.Lock()  # guards the two below
        self._process: _Process | None = None
        self._closed = False

    def parse(self, path: Path, name: str) -> ChunkedDocument:
        """Parse and chunk the file at `path`, called `name` by whoever brought it.

        Raises ParseError where the file is refused, at the latest `limits.seconds` after its turn
        has come; WorkerClosedError after `close`; RuntimeError where no process can be started.
        """
        request = {"path": str(path.resolve()), "name": name[-_LONGEST_NAME:]}
        with self._turn:
            process = self._send(request)
            reusable = False
            try:
                document = _read_document(process.answers, self._limits)
                reusable = process.requests_sent < _REQUESTS_PER_PROCESS
            except ParseError:
                reusable = True  # a refusal is an answer like any other
                raise
            except EOFError as error:
                raise self._cause_of_death(process.stop()) from error
            except FrameTimeoutError as error:
                raise self._timeout() from error
            except FrameError as error:
                raise _crashed() from error
            finally:
                if not reusable:
                    process.stop()
            return document

    def close(self) -> None:
        """End the process at once; a file that is being parsed ends in WorkerClosedError."""
        with self._state:
            self._closed = True
            process = self._process
        if process:
            process.kill()
            with self._turn:
                process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, request: dict[str, Any]) -> "_Process":
        process = self._running()
        try:
            process.send(request)
        except BrokenPipeError:  # it died while idle, through no fault of this file
            process.stop()
            process = self._running()
            process.send(request)
        return process

    def _running(self) -> "_Process":
        with self._state:
            if self._closed:
                raise WorkerClosedError("the parse worker is closed")
            if self._process and not self._process.stopped:
                return self._process
            process = self._process = _Process()
        try:
            process.send(self._setup)
            process.answers.read(time.monotonic() + _START_SECONDS)
        except (OSError, EOFError, FrameError, FrameTimeoutError) as error:
            status = process.stop()
            if self._closed:
                raise WorkerClosedError("the parse worker was closed") from error
            raise RuntimeError(f"the parsing process did not start (status {status})") from error
        return process

    def _cause_of_death(self, status: int) -> Exception:
        if self._closed:
            return WorkerClosedError("the parse worker was closed")
        if status == OUT_OF_MEMORY_STATUS:
            return ParseError("out_of_memory", "Reading the file needs too much memory.")
        return self._timeout() if status == -signal.SIGXCPU else _crashed()

    def _timeout(self) -> ParseError:
        return ParseError(
            "timeout", f"Reading the file takes longer than {self._limits.seconds} seconds."
        )


class _Process:
    """The child, its pipes, and its end: always by SIGKILL to its whole group."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        request_end, self._requests = os.pipe()
        self._answers, answer_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "retrieval.parse_child"],
                stdin=request_end,
                stdout=answer_end,
                cwd="/",
                env=_environment(),
                close_fds=True,
                start_new_session=True,
            )
        finally:
            os.close(request_end)
            os.close(answer_end)
        self.answers = FrameReader(self._answers)
        self.requests_sent = 0
        self.stopped = False

    def send(self, message: dict[str, Any]) -> None:
        write_frame(self._requests, message)
        self.requests_sent += 1

    def kill(self) -> None:
        """End it; safe from any thread, also while another one waits for an answer."""
        with self._lock:
            if self._process.returncode is None:
                # Until it is reaped, which happens below, its number can be nobody else's.
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def stop(self) -> int:
        """End it if it still runs, and give the exit status that it had before that or by it."""
        self.kill()
        if not self.stopped:
            self.stopped = True
            os.close(self._requests)
            os.close(self._answers)
        return self._process.returncode


def _environment() -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(retrieval.__path__[0]).resolve().parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _read_document(answers: FrameReader, limits: ParseLimits) -> ChunkedDocument:
    """Read one answer, believing nothing of it: its sender has just parsed a stranger's file."""
    deadline = time.monotonic() + limits.seconds
    most = answers.bytes_read + max(
        _SMALLEST_RESULT_LIMIT, _RESULT_BYTES_PER_CHARACTER * limits.text_characters
    )
    chunks: list[Chunk] = []
    while answers.bytes_read <= most:
        match answers.read(deadline):
            case {"chunks": [*parts]}:
                chunks += [Chunk(**_checked(Chunk, part)) for part in parts]
            case {"document": dict(document)}:
                fields = _checked(ChunkedDocument, {**document, "chunks": ()})
                return ChunkedDocument(**{**fields, "chunks": tuple(chunks)})
            case {"error": {"code": code, "message": str(message)}}:
                if code not in get_args(ParseErrorCode):
                    raise FrameError("an unknown error code")
                raise ParseError(code, message)
            case _:
                raise FrameError("an unknown message")
    raise FrameError("a longer answer than any text within the limits has")


def _checked(kind: type, fields: object) -> dict[str, Any]:
    """`fields` if they are those of the record `kind`, with values of its types."""
    hints = get_type_hints(kind)
    if not isinstance(fields, dict) or fields.keys() != hints.keys():
        raise FrameError(f"not the fields of a {kind.__name__}")
    for name, hint in hints.items():
        if not isinstance(fields[name], getattr(hint, "__origin__", hint)):
            raise FrameError(f"a wrong {name} in a {kind.__name__}")
    return fields


def _crashed() -> ParseError:
    return ParseError("crashed", "The reader crashed on this file, which is probably damaged.")
