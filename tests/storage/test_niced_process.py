"""The process in which adapters are trained gives way to all others."""

from __future__ import annotations

import os

from storage import niced_process
from tests.nodes import until


def test_a_training_process_has_the_lowest_priority_and_ends_with_its_line() -> None:
    process, line = niced_process.start("personal.training_process")
    try:
        with line:
            until(lambda: os.getpriority(os.PRIO_PROCESS, process.pid) == niced_process.NICENESS)
            assert process.poll() is None
        until(lambda: process.poll() is not None)
    finally:
        process.kill()
        process.wait()
