"""SIGKILL at random moments of ingest, replacement, erasure and snapshot: nothing acknowledged is
lost, nothing erased comes back, no index disagrees with the database."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults import killed

MOST_STEPS = 8
"""Of a journal, that a worker is given; how long they take is the machine's affair."""
LONGEST_SECONDS = 0.3
"""That it is given more; an opening may take as long."""


def kill_and_inspect(tmp_path: Path, times: int, seed: int) -> str:
    """Returns the journal of what was acknowledged."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.killed"])
    chosen = random.Random(seed)
    home, journal, verdict = tmp_path / "home", tmp_path / "journal", tmp_path / "verdict"
    journal.touch()
    for kill in range(times):
        # Each second one within a snapshot, step by step: they are too short for chance alone.
        step = kill // 2 % killed.SNAPSHOT_STEPS if kill % 2 else None
        worker = context.Process(
            target=killed.work, args=(str(home), str(journal), chosen.randrange(2**32), step)
        )
        worker.start()
        if step is None:
            wanted = _lines(journal) + chosen.randint(0, MOST_STEPS)
            while _lines(journal) < wanted:
                assert worker.exitcode is None, "the worker ended by itself"
                time.sleep(0.001)
            time.sleep(chosen.uniform(0.0, LONGEST_SECONDS))
            worker.kill()
        worker.join()
        assert worker.exitcode == -signal.SIGKILL
        if step is not None and step < killed.SNAPSHOT_STEPS - 1:
            assert killed.orphans(home), f"kill {kill} left nothing of a snapshot"
        verdict.unlink(missing_ok=True)
        inspector = context.Process(
            target=killed.inspect, args=(str(home), str(journal), str(verdict))
        )
        inspector.start()
        inspector.join()
        assert inspector.exitcode == 0, f"kill {kill}: the node could not be opened again"
        assert verdict.read_text() == "", f"kill {kill}"
    return journal.read_text()


def _lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n")


@pytest.mark.timeout(280)
def test_ten_kills(tmp_path: Path) -> None:
    assert '"accepted"' in kill_and_inspect(tmp_path, 10, seed=1)


@pytest.mark.faults
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_hundreds_of_kills(tmp_path: Path, seed: int) -> None:
    journal = kill_and_inspect(tmp_path, 60, seed)
    assert '"accepted"' in journal and '"erased"' in journal
