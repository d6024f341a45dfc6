"""Processes that start at once: forks of one that has imported what Alcove's processes import.

The import of the models' libraries takes 10 s of a core and more, and tests start hundreds of
processes. A fork has its own memory, files and signals, and is killed as any other process. It
hides what only a fresh interpreter shows: a hash seed of its own, an import that is missing.
`multiprocessing`'s server of forks has no pipes, and its children are not the test's own.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, AnyStr

ROOT = Path(__file__).parents[1]
# One thread each: the workers of the tests share the cores.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(ROOT)}
LIBRARIES = (
    "alembic.command", "faiss", "fastapi", "httpx", "openai", "peft", "psycopg", "scipy.optimize",
    "scipy.stats", "sentence_transformers", "torch", "transformers.models.auto", "uvicorn",
)  # fmt: skip
"""What takes long to import. None reads what a test sets: NiceGUI and typer would."""
READ_BY_LIBRARIES = {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Their environment: what `alcove` and training processes set, and one thread."""
LARGEST_REQUEST = 150_000
"""Bytes; a packet holds the environment."""
MOST_FILES = 16
HIGH = 512
"""A file's number that no test passes on."""
PR_SET_CHILD_SUBREAPER = 36
commands: dict[int, list[str]] = {}
"""What each was to run, by process id: all have the command line of the process they came from."""
_ONE_AT_A_TIME = threading.Lock()


class Forked(subprocess.Popen[AnyStr]):
    """`python [-P] -m MODULE ARGUMENTS...`, whose interpreter has its libraries already."""

    def _execute_child(
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: bool, pass_fds: Any,
        cwd: Any, env: Any, startupinfo: Any, creationflags: int, shell: bool,
        p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int, errread: int, errwrite: int,
        restore_signals: bool, gid: Any, gids: Any, uid: Any, umask: int,
        start_new_session: bool, process_group: int,
    ) -> None:  # fmt: skip
        """In place of fork and exec, with the arguments that Python 3.11 gives to them."""
        interpreter, *command = map(os.fspath, args)
        flags = command[: command.index("-m")]
        assert interpreter == sys.executable and flags in ([], ["-P"])
        assert not shell and preexec_fn is None and (umask, process_group) == (-1, -1)
        assert (gid, gids, uid) == (None, None, None) and max(pass_fds, default=0) < HIGH
        folder = str(Path.cwd()) if cwd is None else os.fspath(cwd)
        request = {
            "command": command[len(flags) + 1 :],
            "cwd": folder,
            "path": [] if flags else [folder],
            "env": dict(os.environ if env is None else env),
            "session": start_new_session,
            "files": [0, 1, 2, *pass_fds],
        }
        streams = (
            number if pipe == -1 else pipe
            for number, pipe in enumerate((p2cread, c2pwrite, errwrite))
        )
        self.pid = _fork(request, [*streams, *pass_fds])
        commands[self.pid] = command
        self._child_created = True
        self._close_pipe_fds(  # type: ignore[attr-defined]
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite
        )


def run(
    command: Sequence[str | os.PathLike[str]], timeout: float, **options: Any
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` of such a process, with what it wrote."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT, **options}
    with Forked(command, text=True, **options) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _fork(request: dict[str, Any], streams: Sequence[int]) -> int:
    """Process id of a child of this process that runs the command."""
    adopt = ctypes.CDLL(None).prctl
    with _ONE_AT_A_TIME:
        server = _server()
        # The server's child ends at once, and its own child becomes that of whoever is asking.
        adopt(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            socket.send_fds(server, [json.dumps(request).encode()], list(streams))
            return int(server.recv(100))
        finally:
            adopt(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked", str(theirs.fileno())],
            env={**ENVIRONMENT, **READ_BY_LIBRARIES},
            cwd=ROOT, pass_fds=[theirs.fileno()], start_new_session=True,
        )  # fmt: skip

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve(requests: socket.socket) -> None:
    """Fork for each request until nobody can ask; returns in the forks, when they are done."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    while True:
        message, streams, _, _ = socket.recv_fds(requests, LARGEST_REQUEST, MOST_FILES)
        if not message:
            return
        between = os.fork()
        if between == 0:
            between = os.getpid()
            if os.fork():
                os._exit(0)
            break
        os.waitpid(between, 0)
        for stream in streams:
            os.close(stream)
    request = json.loads(message)
    if request["session"]:
        os.setsid()
    while os.getppid() == between:
        time.sleep(0.001)
    requests.send(str(os.getpid()).encode())
    requests.close()
    _become(request, streams)


def _become(request: dict[str, Any], streams: Sequence[int]) -> None:
    """Run the command as an interpreter that was started for it."""
    # Out of the way first: one may have the number that another is to get.
    held = [fcntl.fcntl(stream, fcntl.F_DUPFD, HIGH) for stream in streams]
    os.closerange(3, HIGH)
    for number, stream in zip(request["files"], held, strict=True):
        os.dup2(stream, number)
    os.closerange(HIGH, HIGH + MOST_FILES)
    # Those that are there were made for other files.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    module, *arguments = request["command"]
    sys.path[:1] = request["path"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
