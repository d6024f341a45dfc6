"""Processes that a benchmark asks over HTTP."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

# Where the peers are, Flower holds FastAPI and typer back below what the node needs.
PRODUCT = Path(__file__).parents[1] / ".venv/bin/python"
READY_SECONDS = 120


@contextmanager
def serve_node(home: Path) -> Iterator[str]:
    """The URL of a node that has loaded its models."""
    port = free_port()
    command = [str(PRODUCT), "-m", "cli.main", "node", "serve", "--home", str(home)]
    with serving([*command, "--port", str(port)], {}) as process:
        yield await_ready(process, f"http://127.0.0.1:{port}", "/ready")


@contextmanager
def serving(
    command: list[str], environment: dict[str, str], *, quiet: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A process while the block runs; `quiet` drops what it says."""
    log = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def await_ready(process: subprocess.Popen[bytes], url: str, path: str) -> str:
    """The URL once its path is answered with 200; RuntimeError if the process ends before."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url + path).status_code == 200:
                return url
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} did not become ready")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
