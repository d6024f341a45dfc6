"""The process in which files are parsed: it may die at any moment, and can reach nothing.

Started by `retrieval.parse_worker` with a pipe on standard input and output. The first message
brings the limits; each further one names a file and is answered by a document and its chunks, or
by an error. Before it reads the first file it gives up writing, starting programs and the network.
"""

import os
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrieval.chunking import Chunker
from retrieval.frames import OUT_OF_MEMORY_STATUS, FrameReader, write_frame
from retrieval.parsing import ParseError, ParseLimits, parse

_CHUNKS_PER_FRAME = 64
_NICENESS = 10
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_STARTING = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.")

_CHANGING_FILES = frozenset(
    f"os.{call}"
    for call in "chmod chown kill link mkdir remove rename rmdir symlink truncate utime".split()
)


def main() -> None:
    requests, answers = _private_pipe()
    reader = FrameReader(requests)
    setup = reader.read()
    limits = ParseLimits(**setup["limits"])
    chunker = Chunker(Path(setup["tokenizer_file"]), setup["max_tokens"])
    os.nice(_NICENESS)
    _set_limits(limits)
    sys.addaudithook(refuse_side_effects)
    write_frame(answers, {"ready": True})
    while True:
        try:
            request = reader.read()
        except EOFError:
            return
        try:
            _answer(answers, request, limits, chunker)
        except BrokenPipeError:
            return
        except MemoryError:
            os._exit(OUT_OF_MEMORY_STATUS)  # too little is left even to say so


def _answer(answers: int, request: dict[str, Any], limits: ParseLimits, chunker: Chunker) -> None:
    _limit_cpu(limits.seconds)
    try:
        document = parse(Path(request["path"]), request["name"], limits)
        chunks = chunker.chunk(document)
    except ParseError as error:
        if error.code == "out_of_memory":
            raise MemoryError from error  # what is left of the heap is not to be trusted
        write_frame(answers, {"error": {"code": error.code, "message": error.message}})
    else:
        for first in range(0, len(chunks), _CHUNKS_PER_FRAME):
            part = chunks[first : first + _CHUNKS_PER_FRAME]
            write_frame(answers, {"chunks": [asdict(chunk) for chunk in part]})
        summary = {
            "media_type": document.media_type,
            "title": document.title,
            "pages": len(document.page_starts) or None,
            "characters": len(document.text),
        }
        write_frame(answers, {"document": summary})


def _private_pipe() -> tuple[int, int]:
    """Keep the pipe for ourselves: what a library prints must not become an answer."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return requests, answers


def _set_limits(limits: ParseLimits) -> None:
    for kind, wanted in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        hard = resource.getrlimit(kind)[1]
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (most, most))


def _limit_cpu(seconds: int) -> None:
    """Bound the CPU time of one file, in case that no parent is left to watch the clock."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds + 1, hard))


def refuse_side_effects(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook (PEP 578), which cannot be taken back: it covers what Python code does."""
    if event == "open":
        flags = arguments[2]
        if isinstance(flags, int) and flags & _WRITING:
            raise PermissionError("a parser may not write files")
    elif event.startswith("socket.") and event != "socket.__new__":
        raise PermissionError("a parser may not use the network")
    elif event in _CHANGING_FILES:
        raise PermissionError("a parser may not change files")
    elif event.startswith(_STARTING):
        raise PermissionError("a parser may not start programs")


if __name__ == "__main__":
    main()
