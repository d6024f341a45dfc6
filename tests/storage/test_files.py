"""Files: replaced whole, for their owner alone, held by one process; nothing behind a link goes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.files import lock, new_private, remove, write_private
from tests.nodes import ROOT

WAIT = """
import sys
from storage.files import lock
with open(sys.argv[1]) as file:
    print(lock(file.fileno(), wait=False), flush=True)
    print(lock(file.fileno(), wait=True), flush=True)
"""


@pytest.fixture(autouse=True)
def _no_mask() -> Iterator[None]:
    """With a mask of 0, only the code keeps others out."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (tmp_path / "file.tmp").write_bytes(b"what a kill left, longer than what comes")
    for content in (b"first", b"second"):
        write_private(path, content)
        assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_new_file_is_private_and_takes_no_ones_place(tmp_path: Path) -> None:
    with new_private(tmp_path / "file") as stream:
        stream.write(b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError), new_private(tmp_path / name):
            pass
    assert (tmp_path / "file").read_bytes() == b"content"
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_is_held_by_one_process_until_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w") as file:
        assert lock(file.fileno(), wait=False)
        other = subprocess.Popen(
            [sys.executable, "-c", WAIT, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "False\n"
    assert other.communicate()[0] == "True\n"


def test_removing_takes_files_folders_and_links_but_nothing_behind_a_link(
    tmp_path: Path,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    inside = tmp_path / "inside"
    (inside / "folder" / "deeper").mkdir(parents=True)
    (inside / "file").touch()
    (inside / "link").symlink_to(elsewhere)
    for name in ("folder", "file", "link", "missing"):
        remove(inside / name)
    assert list(inside.iterdir()) == []
    assert (elsewhere / "kept").exists()
