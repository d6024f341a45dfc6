"""`alcove simulate`, the real command on a small labelled data set."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from tests.cli.commands import refusal, run
from tests.forked import ROOT

# What each client has, and what is told of each thing: a passage, a question to learn from, one
# to be scored with.
THINGS = {
    "kitchen": ("bread", "soup", "cheese", "cake"),
    "garden": ("roses", "hedge", "pond", "compost"),
    "harbour": ("crane", "ferry", "buoy", "anchor"),
}
DEEDS = ("cleaning", "storing", "lending")
KEYS = {
    "metric", "clients", "zero_shot", "federated", "without_noise", "alone", "pooled",
    "epsilon_coordinator", "epsilon_release", "epsilon_alone", "delta", "noise_to_signal", "seed",
}  # fmt: skip
SCORES = ("zero_shot", "federated", "without_noise", "alone", "pooled")
PLOT_SHAPE = (675, 1050, 4)


@dataclass(frozen=True)
class Data:
    """Two files, and a cache that nothing else uses."""

    folder: Path

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus.jsonl"

    @property
    def queries(self) -> Path:
        return self.folder / "queries.jsonl"

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run(
            "simulate", "--corpus", self.corpus, "--queries", self.queries, "--rounds", "2",
            "--rank", "2", "--processes", "1", *arguments,
            environment={"XDG_CACHE_HOME": str(self.folder / "cache")},
        )  # fmt: skip

    def lines(self, *arguments: str | Path) -> list[dict[str, Any]]:
        """What it prints with --json, a document a line."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def outcomes(self) -> dict[str, float]:
        """The files of kept outcomes, and when each was written."""
        kept = (self.folder / "cache" / "alcove" / "simulations").iterdir()
        return {file.name: file.stat().st_mtime_ns for file in kept}


@pytest.fixture
def data(tmp_path: Path) -> Data:
    corpus, queries = [], []
    for client, things in THINGS.items():
        for place, thing in enumerate(things):
            owner = {"client": client, "subclient": f"{client} {place // 2}"}
            for deed in DEEDS:
                name = f"{deed} {thing}"
                text = f"Notes on {deed} the {thing}."
                corpus.append({"id": name, "text": text, "title": "", **owner})
                asked = {"train": f"How is {deed} done?", "test": f"What of the {thing}?"}
                queries += [
                    {"id": f"{split} {name}", "text": text, "gold_ids": [name], "split": split}
                    | owner
                    for split, text in asked.items()
                ]
    found = Data(tmp_path)
    found.corpus.write_text("\n".join(map(json.dumps, corpus)))
    found.queries.write_text("\n".join(map(json.dumps, queries)))
    return found


@pytest.mark.long
def test_a_simulation_is_answered_and_kept(data: Data, tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    given = ("--epsilon", "9", "--drop", "0.3", "--seed", "5")
    lines = data.lines(*given, "--processes", "2", "--plot", plot)
    *rounds, last = lines
    assert set(last) == KEYS and len(KEYS) == 13
    assert (last["metric"], last["clients"], last["seed"]) == ("mrr@10", 3, 5)
    assert all(0 < last[name] <= 1 for name in SCORES)
    assert 8.99 < last["epsilon_coordinator"] <= 9 and last["epsilon_alone"] > 9
    released = [one for one in rounds if one["released"]]
    assert len(released) == 2
    assert released[-1]["mrr@10"] == last["federated"]
    for one in rounds:
        assert set(one) == {"round", "joined", "survivors", "released", "mrr@10"}
        assert one["survivors"] <= one["joined"] == 3
    drawn = imread(plot)
    assert drawn.shape == PLOT_SHAPE and drawn.std() > 0

    kept = data.outcomes()
    assert len(kept) == 1
    # Not by chance the same: where the rounds ran again, the file would be another one.
    assert data.lines(*given) == lines and data.outcomes() == kept


@pytest.mark.long
class TestComparisons:
    def test_the_command_of_the_page_runs(self, data: Data) -> None:
        page = (ROOT / "docs" / "command-line.md").read_text()
        (shown,) = re.findall(r"^alcove (simulate .*)$", page, re.MULTILINE)
        cache = {"XDG_CACHE_HOME": str(data.folder / "cache")}
        done = run(*shlex.split(shown), environment=cache, cwd=data.folder)
        assert done.returncode == 0, done.stderr
        assert imread(data.folder / "quality.png").shape == PLOT_SHAPE

    def test_secure_aggregation_gives_the_same_numbers(self, data: Data) -> None:
        given = ("--mode", "document", "--drop", "0.3")
        assert data.lines(*given, "--secure") == data.lines(*given)
        assert len(data.outcomes()) == 2

    def test_without_privacy_there_is_no_epsilon(self, data: Data) -> None:
        last = data.lines("--mode", "none", "--drop", "0")[-1]
        assert set(last) == KEYS
        assert last["federated"] == last["without_noise"]
        costs = ("epsilon_coordinator", "epsilon_release", "epsilon_alone", "delta")
        assert {last[name] for name in (*costs, "noise_to_signal")} == {None}

    def test_nodes_that_are_no_scoring_group_have_no_score_alone(self, data: Data) -> None:
        last = data.lines("--clients-by", "subclient", "--drop", "0")[-1]
        assert (last["clients"], last["alone"]) == (6, None)
        assert data.lines("--clients-by", "group:4", "--drop", "0")[-1]["alone"] is None

    def test_fresh_runs_repeat_and_replace_what_was_kept(self, data: Data) -> None:
        lines = data.lines()
        ((name, written),) = data.outcomes().items()
        assert data.lines("--fresh") == lines
        assert data.outcomes()[name] > written
        # One that was damaged is made again.
        file = data.folder / "cache" / "alcove" / "simulations" / name
        file.write_bytes(file.read_bytes()[:-100])
        assert data.lines() == lines

    def test_people_read_sentences_and_warnings(self, data: Data) -> None:
        done = data.run("--drop", "0")
        assert done.returncode == 0, done.stderr
        first, *_, costs = done.stdout.splitlines()
        assert first.startswith("round 1: 3 of 3 nodes, mrr@10 0.")
        assert costs.startswith("epsilon 8 against the coordinator, ")
        assert "warning: noise-to-signal is " in done.stderr

    def test_more_noise_than_there_is_room_for_is_refused(self, data: Data) -> None:
        assert "epsilon 0.001 needs a noise multiplier above" in refusal(
            data.run("--epsilon", "0.001")
        )

    def test_a_cohort_that_the_data_has_not_is_refused(self, data: Data) -> None:
        message = refusal(data.run("--cohort", "50"))
        assert message.startswith("a cohort of 50 nodes, and the data make 3:")

    def test_the_mode_of_a_plan_holds_where_no_option_names_one(self, data: Data) -> None:
        plan = data.folder / "plan.toml"
        plan.write_text('mode = "document"\n')
        of_plan = data.lines("--plan", plan, "--drop", "0")
        assert of_plan == data.lines("--mode", "document", "--drop", "0")
        assert of_plan != data.lines("--plan", plan, "--mode", "client", "--drop", "0")


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [("missing/plot.png", "No such file"), ("plot.doc", "ends in none of")],
    )
    def test_a_plot_that_cannot_be_written_is_found_before_all_work(
        self, data: Data, name: str, reason: str
    ) -> None:
        message = refusal(data.run("--plot", data.folder / name))
        assert message.startswith("the plot: ") and reason in message
        assert not (data.folder / "cache" / "alcove").exists()

    def test_a_generator_has_no_curve_to_plot(self, data: Data) -> None:
        message = refusal(data.run("--adapter", "generator", "--plot", data.folder / "a.png"))
        assert "there is no curve to draw" in message
        assert not (data.folder / "a.png").exists()

    def test_another_division(self, data: Data) -> None:
        message = refusal(data.run("--clients-by", "groups"), code=2)
        assert "client, subclient or group:N, not 'groups'" in message

    def test_data_without_subclients(self, data: Data) -> None:
        rows = [json.loads(line) for line in data.corpus.read_text().splitlines()]
        data.corpus.write_text("\n".join(json.dumps({**row, "subclient": ""}) for row in rows))
        message = refusal(data.run("--clients-by", "subclient"))
        assert message.startswith("every line needs a subclient")
        assert "every line needs" in refusal(data.run("--unit", "subclient"))

    def test_data_without_training_questions(self, data: Data) -> None:
        data.queries.write_text(data.queries.read_text().replace('"train"', '"dev"'))
        assert "no question of the split 'train'" in refusal(data.run())

    def test_a_file_that_is_not_there(self, data: Data) -> None:
        data.corpus.unlink()
        message = refusal(data.run())
        assert message == f"{data.corpus}: No such file or directory"

    def test_a_line_of_another_layout(self, data: Data) -> None:
        data.queries.write_text('{"id": "q", "text": "?", "gold_ids": "p"}')
        assert "line 1: gold_ids is a list" in refusal(data.run())

    def test_no_privacy_and_an_epsilon(self, data: Data) -> None:
        assert "mode none has no epsilon" in refusal(data.run("--mode", "none", "--epsilon", "1"))
