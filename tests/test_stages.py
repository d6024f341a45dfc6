"""No test is left out of every stage of `.ci/run`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.conftest import STAGES

ROOT = Path(__file__).parents[1]


def test_every_marker_has_a_stage_that_is_run() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    markers = [text.partition(":")[0] for text in options["markers"]]
    assert sorted(markers) == sorted(name for stage in STAGES for name in stage)
    # Strict markers, so that a misspelt one is no way out.
    assert "--strict-markers" in options["addopts"]
    left_out = re.findall(r"not (\w+)", options["addopts"])
    assert sorted(left_out) == sorted(markers)
    targets = dict(
        re.findall(
            r"^(test-\w+):.*\n\t\$\(PYTEST\).* -m '?([\w ]+)", (ROOT / "Makefile").read_text(), re.M
        )
    )
    assert sorted(targets.values()) == sorted(" or ".join(stage) for stage in STAGES)
    run = re.findall(r"^stage .* tests ([\w-]+)$", (ROOT / ".ci/run").read_text(), re.M)
    assert sorted(run) == sorted(["test", *targets])
