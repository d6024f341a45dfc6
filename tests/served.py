"""Real nodes as processes of their own, for tests that speak HTTP to them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests import forked
from tests.forked import ENVIRONMENT, ROOT, Forked

READY_SECONDS = 240
JOB_SECONDS = 120


def alcove_json(*arguments: str) -> Any:
    """What a command prints with --json."""
    command = [sys.executable, "-m", "cli.main", *arguments, "--json"]
    done = forked.run(command, READY_SECONDS, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def start_node(home: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Serve the node in `home` on a free port; returns when it is ready, with its URL."""
    return _start(home, "node", "serve", "--home", str(home), "--port", "0")


@contextmanager
def serving(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The same for as long as it takes."""
    process, url = start_node(home)
    try:
        yield process, url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def start_coordinator(home: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], str]:
    """As `start_node`, for the coordinator in `home`."""
    return _start(home, "coordinator", "serve", "--home", str(home), "--port", "0", *arguments)


def _start(home: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], str]:
    log = home.parent / "server.log"
    with log.open("wb") as stream:
        process: subprocess.Popen[bytes] = Forked(
            [sys.executable, "-m", "cli.main", *arguments],
            env=ENVIRONMENT, cwd=ROOT, stdout=stream, stderr=stream,
        )  # fmt: skip
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            url: str = json.loads((home / "server.json").read_text())["url"]
            if httpx.get(f"{url}/ready").status_code == 200:
                return process, url
        except (OSError, ValueError, httpx.TransportError):
            pass  # it has not come so far yet
        time.sleep(0.2)
    process.kill()
    raise AssertionError(f"the server did not become ready:\n{log.read_text()}")


def wait(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job once it is finished."""
    deadline = time.monotonic() + JOB_SECONDS
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        if job["finished_at"] is not None:
            return job
        time.sleep(0.1)
    raise AssertionError(f"the job did not finish: {job}")
