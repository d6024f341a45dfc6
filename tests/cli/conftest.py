"""A real node, served by a real process, for all tests of the command line."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.served import alcove_json, start_node


@dataclass(frozen=True)
class Served:
    """A running node."""

    home: Path
    url: str
    process: subprocess.Popen[bytes]

    def owner(self) -> httpx.Client:
        """A client with the session key, for what a test prepares."""
        key = json.loads((self.home / "server.json").read_text())["key"]
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)


@pytest.fixture(scope="session")
def served(fresh_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = shutil.copytree(fresh_home, tmp_path_factory.mktemp("served") / "home")
    (home / "settings.toml").write_text("answer_tokens = 40\nmax_file_bytes = 100_000\n")
    process, url = start_node(home)
    try:
        yield Served(home, url, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="session")
def fresh_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("fresh") / "home"
    alcove_json("node", "init", "--home", str(home))
    return home


@pytest.fixture
def home(fresh_home: Path, tmp_path: Path) -> Path:
    """A node that was never served, a copy for each test."""
    return shutil.copytree(fresh_home, tmp_path / "home")
