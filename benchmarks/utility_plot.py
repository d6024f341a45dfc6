"""`python -m benchmarks.utility_plot ROWS.jsonl FILE` draws what `utility --json` printed."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

CASE = re.compile(r"(\w+) .*, mode client, epsilon ([\d.]+), (\d+) nodes")


def draw(rows: Path, file: Path) -> None:
    """One panel for each data set: gain over zero-shot by epsilon, with its 95% interval."""
    gains: dict[str, dict[float, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    nodes = {}
    for line in rows.read_text().splitlines():
        row = json.loads(line)
        if found := CASE.match(row["case"]):
            gains[found[1]][float(found[2])][row["metric"]] = row["ours"]
            nodes[found[1]] = found[3]
            if row["metric"] == "without_noise mrr@10":
                gains[found[1]][float(found[2])]["plain"] = row["ours"] - row["peer"]
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels = figure.subplots(1, len(gains), sharey=True, squeeze=False)[0]
    for axes, (name, by_epsilon) in zip(panels, sorted(gains.items()), strict=True):
        chosen = sorted(by_epsilon)
        middle = [by_epsilon[e]["gain"] for e in chosen]
        low = [by_epsilon[e]["gain, 95% from"] for e in chosen]
        high = [by_epsilon[e]["gain, 95% to"] for e in chosen]
        axes.fill_between(chosen, low, high, alpha=0.2)
        axes.plot(chosen, middle, marker="o", label="federated, private")
        plain = [by_epsilon[e]["plain"] for e in chosen]
        axes.plot(chosen, plain, linestyle="--", color="grey", label="the same without noise")
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_xticks(chosen, [f"{e:g}" for e in chosen])
        axes.set_xlabel("epsilon against the coordinator")
        axes.set_title(f"{name}, {nodes[name]} nodes", fontsize=10)
    panels[0].set_ylabel("gain in MRR@10")
    panels[0].legend(frameon=False, fontsize=9, loc="lower right")
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
