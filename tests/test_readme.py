"""The README's tour, run as a newcomer would, on another port and in another home."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_tour_runs(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "README.md").write_text((ROOT / "README.md").read_text())
    blocks = [
        text if language == "sh" else f"python - <<'END'\n{text}END\n"
        for language, text in BLOCK.findall((ROOT / "README.md").read_text())
    ]
    script = "set -eo pipefail\ntrap 'kill %1; wait' EXIT\n" + "\n".join(blocks)
    environment = {
        **os.environ,
        "ALCOVE_HOME": str(tmp_path / "home"),
        "ALCOVE_PORT": str(port),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-c", script.replace("8420", str(port))],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "[1]" in done.stdout
    assert "chat.completion" in done.stdout
    assert "receipt" in done.stdout
