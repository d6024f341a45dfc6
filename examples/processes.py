"""What both halves of the demo are made of: servers as processes, the command, the console."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
from rich.console import Console

START_SECONDS = 300
JOB_SECONDS = 600
ALCOVE = (sys.executable, "-m", "cli.main")
console = Console(width=min(Console().width, 100))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class DemoError(Exception):
    """Something that the demo promises did not happen."""


def step(title: str) -> None:
    console.print()
    console.rule(f"[bold]{title}", align="left")


def checked(response: httpx.Response) -> Any:
    """The body of a success."""
    if response.is_error:
        raise DemoError(f"{response.request.url}: {response.status_code} {response.text}")
    return response.json()


def wait(
    owner: httpx.Client,
    job: dict[str, Any],
    follow: Callable[[dict[str, Any]], None] = lambda job: None,
) -> None:
    """Return when the job has finished without a failed item; `follow` is shown it on the way."""
    deadline = time.monotonic() + JOB_SECONDS
    while job["finished_at"] is None:
        if time.monotonic() > deadline:
            raise DemoError(f"{job['id']} was not finished within {JOB_SECONDS} s")
        time.sleep(0.3)
        job = checked(owner.get(f"/v1/jobs/{job['id']}"))
        follow(job)
    failed = [item for item in job["items"] if item["state"] == "failed"]
    if failed:
        raise DemoError(f"{job['id']} failed: {failed[:3]}")


def alcove_json(*arguments: str) -> Any:
    """What an `alcove` command prints with --json."""
    done = subprocess.run(
        [*ALCOVE, *arguments, "--json"], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise DemoError(f"alcove {' '.join(arguments[:3])}: {done.stderr}")
    return json.loads(done.stdout)


@contextmanager
def serve(
    home: Path, role: Literal["node", "coordinator"], *, keep: bool = False
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A real server process on a free loopback port, ready; with its address."""
    log = (home / "server.log").open("wb")
    process = subprocess.Popen(
        [*ALCOVE, role, "serve", "--home", str(home), "--port", "0"],
        stdout=log, stderr=log, start_new_session=keep,
    )  # fmt: skip
    try:
        yield process, _wait_until_ready(home, process)
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _wait_until_ready(home: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError((home / "server.log").read_text())
        address = home / "server.json"
        if address.exists():
            url: str = json.loads(address.read_text())["url"]
            try:
                if httpx.get(f"{url}/ready").status_code == 200:
                    return url
            except httpx.TransportError:
                pass  # it has its port but does not listen yet
        time.sleep(0.2)
    raise DemoError(f"the server was not ready after {START_SECONDS} s")
