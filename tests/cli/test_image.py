"""The image's environment and health check, without a container engine: every role is served."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.forked import ENVIRONMENT, ROOT
from tests.served import READY_SECONDS


def environment(data: Path) -> dict[str, str]:
    """What the Dockerfile sets, with its volume elsewhere and free ports."""
    (block,) = re.findall(r"^ENV (.*?[^\\])$", (ROOT / "Dockerfile").read_text(), re.S | re.M)
    given = dict(one.split("=", 1) for one in block.replace("\\\n", " ").split())
    assert all(value.startswith("/data/") for name, value in given.items() if "HOME" in name)
    # Not the cache: the packaged generator is converted once for all tests.
    own = {
        name: value.replace("/data", str(data))
        for name, value in given.items()
        if name.startswith("ALCOVE_")
    }
    return {**ENVIRONMENT, **own, "ALCOVE_PORT": "0", "ALCOVE_COORDINATOR_PORT": "0"}


def run(module: str, *arguments: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", module, *arguments], env=env, cwd=ROOT)


@pytest.mark.parametrize("role", ["node", "coordinator"])
def test_each_role_is_healthy_while_it_is_served(role: str, tmp_path: Path) -> None:
    env = environment(tmp_path)

    def health() -> int:
        return run("cli.healthy", env=env).wait()

    assert run("cli.main", role, "init", env=env).wait() == 0
    assert health() == 1
    server = run("cli.main", role, "serve", env=env)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while health() != 0:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        (address,) = tmp_path.glob("*/server.json")
        port = int(json.loads(address.read_text())["url"].rpartition(":")[2])
        # Others must reach it (proc(5): addresses and ports in hexadecimal, 0A is listening).
        assert re.search(rf": 00000000:{port:04X} \S+ 0A ", Path("/proc/net/tcp").read_text())
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    assert health() == 1
