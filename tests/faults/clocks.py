"""A process whose wall clock is wrong, by as much as a file says at the moment.

As a module, `alcove` with such a clock: python -m tests.faults.clocks FILE ARGUMENTS.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

HOUR = 3_600.0


def set_wrong(path: Path) -> None:
    """Shift this process's wall clock by the seconds that the file holds; the monotonic one not."""
    right, utc = time.time, time.gmtime

    def wrong() -> float:
        return right() + float(path.read_text())

    time.time = wrong
    time.gmtime = lambda seconds=None: utc(wrong() if seconds is None else seconds)


def shift(path: Path, seconds: float) -> None:
    """Change the clock of whoever reads this file."""
    new = path.with_suffix(".new")
    new.write_text(f"{seconds}")
    new.replace(path)


if __name__ == "__main__":
    set_wrong(Path(sys.argv.pop(1)))
    from cli.main import main

    main()
