"""`alcove personal` against a running node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import refusal, run, run_json
from tests.cli.conftest import Served
from tests.personal.towns import PLACES, question, rule, story


@pytest.mark.long
def test_train_list_serve_reset(served: Served, tmp_path: Path) -> None:
    home = served.home
    folder = tmp_path / "town"
    folder.mkdir()
    for place in PLACES:
        (folder / f"{place}-a.txt").write_text(story(place))
        (folder / f"{place}-b.txt").write_text(rule(place))
    labels = tmp_path / "labels.jsonl"
    lines = [{"question": question(p), "relevant": [f"town/{p}-b.txt"]} for p in PLACES]
    labels.write_text("\n".join(json.dumps(line) for line in lines))
    run_json("assistant", "create", "town", home=home)
    run_json("ingest", folder, "--assistant", "town", home=home)
    refused = run("personal", "train", "--assistant", "town", home=home)
    assert "needs 5 examples, and there are 0" in refusal(refused)
    run_json("question", "add", labels, "--assistant", "town", home=home)

    done = run("personal", "train", "--assistant", "town", "--adapter", "retriever", home=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("retriever: version ") and " is served (MRR@10" in done.stdout
    (version,) = run_json("personal", "list", "--assistant", "town", home=home)["data"]
    assert version["state"] == "served" and version["examples"] == len(PLACES)
    served_again = run_json(
        "personal", "serve", str(version["id"]), "--assistant", "town", home=home
    )
    assert served_again == version
    kept = run_json("personal", "schedule", "24", "--assistant", "town", home=home)
    assert kept == {"hours": 24}
    run_json("personal", "reset", "--yes", "--assistant", "town", home=home)
    listed = run_json("personal", "list", "--assistant", "town", home=home)
    assert listed == {"schedule_hours": 24, "jobs": [], "data": []}
    run_json("assistant", "delete", "town", "--yes", home=home)
