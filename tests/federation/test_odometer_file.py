"""The odometer's file: killed processes, torn writes, damage, backups, missing files."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from federation.odometer_file import OdometerError, OdometerFile
from privacy.accounting import ORDERS
from privacy.budget import BudgetExceededError, Step
from privacy.guarantee import DeltaTerms
from privacy.limits import Loss, RenyiFilter, Run, Unit

ROOT = Path(__file__).parents[2]
LIMIT = RenyiFilter(Unit.SUBJECT, order=32, epsilon=8.0, delta=1e-6)
RUN = Run("plan", Unit.SUBJECT, 100_000, Loss((1e-6,) * len(ORDERS), DeltaTerms(0.0, 0.0, 0.0)))


def opened(folder: Path) -> OdometerFile:
    return OdometerFile.open(folder / "odometer", folder / "identity.pem", LIMIT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a node that has debited rounds a, b and c."""
    with opened(tmp_path) as file:
        for round_id in "abc":
            assert file.debit(RUN, round_id)
    return tmp_path


def charged(folder: Path) -> tuple[str, ...]:
    with opened(folder) as file:
        return file.odometer.rounds("plan", Step.CHARGED)


CHILD = """
import sys
from pathlib import Path
from tests.federation.test_odometer_file import RUN, opened
with opened(Path(sys.argv[1])) as file:
    for i in range(100_000):
        file.debit(RUN, f"{sys.argv[2]}-{i}")
        print(f"{sys.argv[2]}-{i}", flush=True)
"""


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_what_a_killed_process_acknowledged_is_in_the_file(tmp_path: Path) -> None:
    """SIGKILL at random moments while it appends; a debit counts once it has returned."""
    acknowledged: list[str] = []
    generator = random.Random(20_08_11193)
    for attempt in range(3):
        process = child(CHILD, str(tmp_path), str(attempt))
        assert process.stdout is not None
        for _ in range(generator.randrange(1, 60)):
            acknowledged.append(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.read().splitlines()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        found = charged(tmp_path)
        assert set(acknowledged) <= set(found)
        assert len(found) <= len(acknowledged) + attempt + 1
        with opened(tmp_path) as file:
            assert file.odometer.spent() == RUN.loss.times(len(found))
    assert len(acknowledged) > 3


FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.federation.test_odometer_file import RUN, opened
file = opened(Path(sys.argv[1]))
size = (Path(sys.argv[1]) / "odometer").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + int(sys.argv[2]),) * 2)
try:
    for i in range(100):
        file.debit(RUN, f"d{i}")
        print(f"d{i}", flush=True)
except OSError as error:
    print(type(error).__name__, error.errno, flush=True)
try:
    file.debit(RUN, "after")
except Exception as error:
    print(type(error).__name__, flush=True)
"""


def test_a_write_that_the_kernel_cut_short_is_refused_and_repaired(folder: Path) -> None:
    process = child(FULL_DISK, str(folder), "1000")
    assert process.stdout is not None
    *acknowledged, failure, refusal = process.communicate(timeout=60)[0].splitlines()
    assert failure == f"OSError {27}"
    assert refusal == "OdometerError"
    assert not (folder / "odometer").read_bytes().endswith(b"\n")
    with opened(folder) as file:
        assert file.dropped > 0
        assert list(file.odometer.rounds("plan", Step.CHARGED)) == [*"abc", *acknowledged]
        assert file.debit(RUN, "next")
    assert charged(folder)[-1] == "next"


def test_a_tail_torn_at_any_byte_is_dropped(folder: Path) -> None:
    whole = (folder / "odometer").read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in range(start, len(whole)):
        (folder / "odometer").write_bytes(whole[:end])
        with opened(folder) as file:
            assert file.dropped == end - start
            assert file.odometer.rounds("plan", Step.CHARGED) == ("a", "b")
        assert (folder / "odometer").read_bytes() == whole[:start]


def test_a_tail_of_zeros_is_dropped_and_the_debit_can_be_made_again(folder: Path) -> None:
    """A file system may lengthen a file before it has written the data."""
    with (folder / "odometer").open("ab") as file:
        file.write(bytes(512))
    with opened(folder) as reopened:
        assert reopened.dropped == 512
        assert reopened.debit(RUN, "d")
    assert charged(folder) == ("a", "b", "c", "d")


def test_any_other_damage_is_refused(folder: Path) -> None:
    whole = (folder / "odometer").read_bytes()
    lines = whole.splitlines(keepends=True)
    generator = random.Random(8785)
    damaged = [
        b"",
        b"\n",
        b"{}\n",
        whole + b"\n",
        whole + b"garbage\n",
        lines[-1],
        b"".join(lines[1:]),
        b"".join([lines[0], *lines[2:]]),
        b"".join([*lines[:-2], lines[-1]]),
        b"".join([*lines[:-2], lines[-1], lines[-2]]),
        b"".join([*lines, lines[-1]]),
    ]
    for _ in range(60):
        i = generator.randrange(len(whole) - 1)
        damaged.append(
            whole[:i] + bytes([whole[i] ^ (1 << generator.randrange(8))]) + whole[i + 1 :]
        )
    for data in damaged:
        (folder / "odometer").write_bytes(data)
        with pytest.raises(OdometerError):
            opened(folder)
        assert (folder / "odometer").read_bytes() == data


def test_an_identity_without_an_odometer_is_refused(folder: Path) -> None:
    (folder / "identity.pem").write_bytes(b"key")
    assert charged(folder) == ("a", "b", "c")
    (folder / "odometer").unlink()
    with pytest.raises(OdometerError, match="not known any more"):
        opened(folder)
    assert not (folder / "odometer").exists()


def test_the_limit_of_an_existing_file_stays_in_force(folder: Path) -> None:
    looser = RenyiFilter(Unit.SUBJECT, order=32, epsilon=50.0, delta=1e-6)
    with OdometerFile.open(folder / "odometer", folder / "identity.pem", looser) as file:
        assert file.odometer.limit == LIMIT
        file.change_epsilon(1.0)
    with opened(folder) as file:
        assert file.odometer.limit.epsilon == 1.0


def test_a_refused_debit_writes_nothing(folder: Path) -> None:
    before = (folder / "odometer").read_bytes()
    dear = Run("dear", Unit.SUBJECT, 1, Loss((100.0,) * len(ORDERS), DeltaTerms(0.0, 0.0, 0.0)))
    with opened(folder) as file:
        assert not file.debit(RUN, "a")
        with pytest.raises(BudgetExceededError):
            file.debit(dear, "1")
        assert file.debit(RUN, "d")
    assert (folder / "odometer").read_bytes().startswith(before)
    assert charged(folder) == ("a", "b", "c", "d")


def test_a_restored_backup_resumes_from_receipts(folder: Path) -> None:
    backup = (folder / "odometer").read_bytes()
    with opened(folder) as file:
        file.debit(RUN, "d")
        complete = file.odometer.spent()
    (folder / "odometer").write_bytes(backup)
    with opened(folder) as file:
        # Cut after a line, the file looks whole: only the receipt knows of d.
        assert file.dropped == 0
        assert file.odometer.rounds("plan", Step.CHARGED) == ("a", "b", "c")
        assert [file.recover(RUN, round_id) for round_id in "dab"] == [True, False, False]
    with opened(folder) as file:
        assert file.odometer.spent() == complete


def test_one_process_at_a_time(folder: Path) -> None:
    with opened(folder) as first:
        with pytest.raises(OdometerError, match="another process"):
            opened(folder)
        assert first.debit(RUN, "d")
    with pytest.raises(OdometerError, match="closed"):
        first.debit(RUN, "e")
    assert charged(folder) == ("a", "b", "c", "d")


def test_a_debit_returns_after_the_file_is_synced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        synced.append((folder / "odometer").read_bytes())

    with opened(folder) as file:
        monkeypatch.setattr(os, "fsync", fsync)
        file.debit(RUN, "d")
        assert synced == [(folder / "odometer").read_bytes()]
        assert b'"round_id":"d"' in synced[0]


def test_after_a_failed_sync_nothing_more_is_accepted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(5, "input/output error")

    with opened(folder) as file:
        monkeypatch.setattr(os, "fsync", failing)
        with pytest.raises(OSError, match="input/output"):
            file.debit(RUN, "d")
        monkeypatch.undo()
        with pytest.raises(OdometerError, match="earlier write"):
            file.debit(RUN, "e")
    assert charged(folder) == ("a", "b", "c", "d")


def test_the_file_is_private_and_never_a_link(tmp_path: Path) -> None:
    opened(tmp_path).close()
    assert (tmp_path / "odometer").stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["odometer"]
    (tmp_path / "odometer").rename(tmp_path / "elsewhere")
    (tmp_path / "odometer").symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        opened(tmp_path)
