"""The node's private folder: its layout, permissions and the lock of its one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.home import HomeBusyError, HomeError, NodeHome
from tests.nodes import ROOT, add_assistant, open_database

HOLD = """
import sys
from pathlib import Path
from storage.home import NodeHome
with NodeHome(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _no_mask() -> Iterator[None]:
    """With a mask of 0, only the code keeps others out."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(root: Path) -> dict[str, int]:
    return {
        str(path.relative_to(root)): path.stat().st_mode & 0o777
        for path in (root, *root.rglob("*"))
    }


class TestFolder:
    def test_everything_in_it_is_the_owners_alone(self, tmp_path: Path) -> None:
        home = NodeHome(tmp_path / "node")
        home.create()
        home.announce("http://127.0.0.1:1", "key")
        with home.lock(), open_database(home.database) as database:
            add_assistant(database, "a")
            assert modes(home.root) == {
                ".": 0o700,
                "indexes": 0o700,
                "uploads": 0o700,
                "lock": 0o600,
                "server.json": 0o600,
                "node.db": 0o600,
                "node.db-wal": 0o600,
                "node.db-shm": 0o600,
            }

    def test_a_database_that_others_could_read_is_closed_to_them(self, tmp_path: Path) -> None:
        path = tmp_path / "node.db"
        path.touch(0o666)
        with open_database(path):
            assert path.stat().st_mode & 0o777 == 0o600

    def test_an_open_folder_is_closed(self, tmp_path: Path) -> None:
        root = tmp_path / "node"
        root.mkdir(mode=0o777)
        NodeHome(root).create()
        assert root.stat().st_mode & 0o777 == 0o700

    def test_a_folder_of_something_else_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.docx").touch()
        with pytest.raises(HomeError, match="not empty"):
            NodeHome(tmp_path).create()
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]

    def test_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "node").touch()
        with pytest.raises(HomeError, match="not a folder"):
            NodeHome(tmp_path / "node").create()

    def test_settings_may_be_written_before(self, tmp_path: Path) -> None:
        (tmp_path / "settings.toml").touch()
        (tmp_path / "certificate.pem").touch()
        NodeHome(tmp_path).create()
        assert (tmp_path / "uploads").is_dir()

    def test_what_a_stop_left_half_made_is_completed(self, tmp_path: Path) -> None:
        home = NodeHome(tmp_path)
        home.create()
        with home.lock():
            pass
        home.uploads.rmdir()
        home.create()
        assert home.uploads.is_dir()

    def test_a_folder_without_a_node_is_told_apart(self, tmp_path: Path) -> None:
        home = NodeHome(tmp_path)
        home.create()
        with pytest.raises(HomeError, match="alcove node init"):
            home.require()
        with open_database(home.database):
            home.require()
        assert home.exists()


class TestLock:
    def test_a_second_process_is_refused_until_the_first_ends(self, tmp_path: Path) -> None:
        home = NodeHome(tmp_path)
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert holder.stdin and holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HomeBusyError, match="another process"), home.lock():
            pass
        holder.kill()
        holder.wait()
        with home.lock():
            assert (tmp_path / "lock").exists()
        holder.stdin.close()
        holder.stdout.close()

    def test_its_own_process_is_refused_too(self, tmp_path: Path) -> None:
        home = NodeHome(tmp_path)
        with home.lock(), pytest.raises(HomeBusyError), home.lock():
            pass
        with home.lock():
            assert (tmp_path / "lock").exists()


class TestAddress:
    def test_it_is_announced_and_withdrawn(self, tmp_path: Path) -> None:
        home = NodeHome(tmp_path)
        home.announce("http://127.0.0.1:8420", "alcove_x")
        announced = json.loads((tmp_path / "server.json").read_text())
        assert (announced["url"], announced["key"]) == ("http://127.0.0.1:8420", "alcove_x")
        home.withdraw()
        home.withdraw()
        assert not home.address.exists()
