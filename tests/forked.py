"""Processes that start at once: forks of one that has imported what Alcove's processes import.

The import of the models' libraries takes 10 s of a core and more, and tests start hundreds of
processes. A fork has its own memory, files and signals, and is killed as any other process.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, AnyStr

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
LIBRARIES = (
    "alembic.command", "faiss", "fastapi", "httpx", "openai", "peft", "psycopg", "scipy.optimize",
    "scipy.stats", "sentence_transformers", "torch", "transformers.models.auto", "uvicorn",
)  # fmt: skip
"""What takes long to import. None reads what a test sets: NiceGUI and typer would."""
LARGEST_REQUEST = 150_000
"""Bytes; a packet holds the environment."""
PR_SET_CHILD_SUBREAPER = 36


class Forked(subprocess.Popen[AnyStr]):
    """`python -m MODULE ARGUMENTS...`, whose interpreter has its libraries already."""

    def _execute_child(self, *given: Any) -> None:
        """In place of fork and exec, with the arguments that Python 3.11 gives to them."""
        args, *_, cwd, env = given[:7]
        pipes = given[10:16]
        executable, flag, *command = map(os.fspath, args)
        assert (executable, flag) == (sys.executable, "-m")
        request = {"command": command, "cwd": os.fspath(cwd), "env": env, "session": given[20]}
        streams = [
            inherited if pipe == -1 else pipe
            for inherited, pipe in enumerate((pipes[0], pipes[3], pipes[5]))
        ]
        self.pid = _fork(request, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


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
    server = _server()
    adopt = ctypes.CDLL(None).prctl
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
            env={**ENVIRONMENT, "TQDM_DISABLE": "1"},  # as `alcove` sets it before it imports
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
        message, streams, _, _ = socket.recv_fds(requests, LARGEST_REQUEST, 3)
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
    while os.getppid() == between:
        time.sleep(0.001)
    requests.send(str(os.getpid()).encode())
    requests.close()
    _become(json.loads(message), streams)


def _become(request: dict[str, Any], streams: Sequence[int]) -> None:
    """Run the command as an interpreter that was started for it."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # Those that are there were made for other files.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    if request["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    module, *arguments = request["command"]
    sys.path[0] = request["cwd"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
