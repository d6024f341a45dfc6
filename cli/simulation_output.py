"""What `alcove simulate` shows: rounds as they end, the comparison, and a plot of both."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cli.errors import CommandError, os_error_message
from cli.output import show, stage_bars

if TYPE_CHECKING:
    from federation.simulation.run import Outcome, Point


@contextmanager
def round_lines(rounds: int, as_json: bool, metric: str) -> Iterator[Callable[[str, Point], None]]:
    """A line for each round, and a bar for those of the comparison without noise."""
    with stage_bars() as report:
        released: Counter[str] = Counter()

        def on_round(which: str, point: Point) -> None:
            released[which] += point.released
            report(which.replace("_", " "), released[which], rounds)
            if which == "federated":
                show_round(point, metric, as_json)

        yield on_round


def show_round(point: Point, metric: str, as_json: bool) -> None:
    value = None if point.value is None else round(point.value, 4)
    if as_json:
        facts = {"round": point.number, "joined": point.joined, "survivors": point.survivors}
        show(json.dumps({**facts, "released": point.released, metric: value}))
        return
    quality = "" if value is None else f", {metric} {value:.4f}"
    failed = "" if point.released else ": too few, failed"
    show(f"round {point.number}: {point.survivors} of {point.joined} nodes{failed}{quality}")


def show_outcome(outcome: Outcome) -> None:
    found = outcome.as_json()
    show(f"\n{found['metric']}, mean over groups, {found['clients']} nodes, seed {found['seed']}")
    for name in ("zero_shot", "federated", "without_noise", "alone", "pooled"):
        if found[name] is not None:
            show(f"{name.replace('_', ' '):16}{found[name]:.4f}")
    if outcome.costs is not None:
        costs = outcome.costs
        alone = "unbounded" if costs.epsilon_alone is None else f"{costs.epsilon_alone:.3g}"
        show(
            f"epsilon {costs.epsilon_coordinator:.3g} against the coordinator,"
            f" {costs.epsilon_release:.3g} for what is released, {alone} if all others lie,"
            f" at delta {costs.delta:.3g}; noise-to-signal {costs.noise_to_signal:.3g}"
        )


def check_plot(file: Path) -> None:
    """Refuse, before hours of training, a plot that could not be drawn."""
    from matplotlib.figure import Figure

    known = Figure().canvas.get_supported_filetypes()
    if file.suffix[1:].lower() not in known:
        raise CommandError(f"the plot: {file.name!r} ends in none of {', '.join(sorted(known))}")
    is_new = not file.exists()
    try:
        file.open("ab").close()
        if is_new:
            file.unlink()
    except OSError as error:
        raise CommandError(f"the plot: {os_error_message(error)}") from error


def draw(outcome: Outcome, file: Path) -> None:
    """The quality by round; the format follows the file's name."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    lines = {"federated": outcome.history, "without noise": outcome.history_without_noise}
    if outcome.costs is None:
        del lines["without noise"]
    for name, points in lines.items():
        values = [point.value for point in points if point.released and point.value is not None]
        axes.plot([outcome.zero_shot.mean, *values], marker="o", markersize=3, label=name)
    axes.axhline(outcome.zero_shot.mean, color="grey", linewidth=1, label="zero-shot")
    axes.axhline(outcome.pooled.mean, color="grey", linewidth=1, linestyle=":", label="pooled")
    axes.set_xlabel("rounds")
    axes.set_ylabel(outcome.metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if outcome.costs is not None:
        axes.set_title(
            f"{outcome.nodes} nodes, epsilon {outcome.costs.epsilon_coordinator:.3g},"
            f" delta {outcome.costs.delta:.3g}",
            fontsize=10,
        )
    axes.legend(frameon=False)
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise CommandError(f"the plot: {os_error_message(error)}") from error
