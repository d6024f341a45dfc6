"""`alcove simulate`: what a federation would bring, tried on labelled data without any node."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import CommandError, os_error_message
from cli.options import AsJson
from cli.output import message_console, say, show

if TYPE_CHECKING:
    from federation.plan_request import ResolvedPlan
    from federation.simulation.population import Division, Population
    from federation.simulation.run import Lab, Outcome, Point
    from federation.simulation.vectors import KnownVectors
    from retrieval.embedding import Embedder

DEFAULT_EPSILON = 8.0
DEFAULT_ROUNDS = 10
LARGEST_SEED = 2**53 - 1
"""What every reader of JSON reads as it was written."""
SCORED_ANSWERS = 200
"""Questions that a generator is scored with; each answer takes a second or two of two cores."""


class Kind(StrEnum):
    RETRIEVER = "retriever"
    GENERATOR = "generator"


DEFAULT_RANKS = {Kind.RETRIEVER: 64, Kind.GENERATOR: 4}


class SimulatedMode(StrEnum):
    CLIENT = "client"
    DOCUMENT = "document"
    LOCAL = "local"
    NONE = "none"


class UnitName(StrEnum):
    DOCUMENT = "document"
    SUBCLIENT = "subclient"


class Field(StrEnum):
    CLIENT = "client"
    SUBCLIENT = "subclient"


def simulate(
    corpus: Annotated[
        Path, typer.Option(help="JSON lines with id, text, client, subclient; plain or gzip.")
    ],
    queries: Annotated[
        Path, typer.Option(help="JSON lines with id, text, client, subclient, gold_ids, split.")
    ],
    clients_by: Annotated[
        str, typer.Option(help="What a node is: client, subclient, or group:N for N groups.")
    ] = "client",
    score_by: Annotated[
        Field, typer.Option(help="Within what a question's passage is looked for.")
    ] = Field.CLIENT,
    split: Annotated[str, typer.Option(help="The questions to score with.")] = "test",
    limit: Annotated[
        int | None, typer.Option(help="At most so many passages of each client.", min=1)
    ] = None,
    adapter: Annotated[Kind, typer.Option(help="What is trained.")] = Kind.RETRIEVER,
    mode: Annotated[
        SimulatedMode | None,
        typer.Option(help="Who is protected, client if unset; none: neither grid nor noise."),
    ] = None,
    unit: Annotated[
        UnitName | None,
        typer.Option(
            help="A subject: a line of the corpus, or all of a subclient, if lines have one."
        ),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(help=f"epsilon_coordinator of all rounds; {DEFAULT_EPSILON:g} if unset."),
    ] = None,
    delta: Annotated[float | None, typer.Option(help="Of the statement.")] = None,
    rounds: Annotated[
        int | None, typer.Option(help=f"Rounds; {DEFAULT_ROUNDS} if unset.", min=1)
    ] = None,
    cohort: Annotated[
        int | None, typer.Option(help="Nodes invited to a round; all if unset.", min=2)
    ] = None,
    participations: Annotated[
        int | None, typer.Option(help="Most rounds of one node; all if unset.", min=1)
    ] = None,
    colluders: Annotated[
        int | None, typer.Option(help="A tenth of the cohort, if unset.", min=0)
    ] = None,
    drop: Annotated[
        float, typer.Option(help="Probability that a node drops out of a round.", min=0, max=0.9)
    ] = 0.1,
    rank: Annotated[
        int | None, typer.Option(help="Of the adapter; 64, or 4 of a generator, if unset.", min=1)
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(help="Further terms of the plan, TOML or JSON; options go before it."),
    ] = None,
    secure: Annotated[
        bool, typer.Option("--secure", help="Run secure aggregation; the sums are the same.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Of everything that is random.", min=0, max=LARGEST_SEED)
    ] = 0,
    processes: Annotated[
        int | None, typer.Option(help="Processes; one for each core if unset.", min=1)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the quality over rounds into this file.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Repeat what the cache holds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a federation on labelled data, with the code of real ones, and compare.

    Vectors and outcomes are kept in the user's cache: the same command does not train again.
    """
    from cli import logs
    from federation.simulation import results
    from federation.simulation.population import Division
    from federation.simulation.run import simulate as run
    from federation.simulation.simulator import SimulationError
    from generation.weights import user_cache

    logs.configure("command")
    try:
        division = Division.read(clients_by)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--clients-by") from error
    if mode is SimulatedMode.NONE and (epsilon is not None or secure):
        raise CommandError("mode none has no epsilon and nothing to aggregate securely")
    _check_plot(plot, adapter)
    population = _population(corpus, queries, limit, division, unit, score_by, split)
    if adapter is Kind.GENERATOR:
        population = population.with_questions(SCORED_ANSWERS)
    fields = _fields(plan)
    given = {
        "epsilon": epsilon, "delta": delta, "rounds": rounds, "cohort": cohort,
        "max_participations": participations, "colluders": colluders,
    }  # fmt: skip
    fields |= {name: value for name, value in given.items() if value is not None}
    private = mode is not SimulatedMode.NONE
    if mode is not None:
        fields["mode"] = mode.value if private else "client"
    lab, resolved = _lab(adapter, population, fields, private, rank, drop)
    _check_cohort(resolved, len(population.nodes))
    if private:
        _warn(resolved)
    store = results.Results(user_cache() / "simulations")
    key = results.outcome_key(
        population, resolved, private=private, drop=drop, secure=secure, seed=seed
    )
    outcome = None if fresh else store.get(key)
    if outcome is None:
        with _rounds(resolved.plan.privacy.rounds, as_json, lab.metric) as on_round:
            try:
                outcome = run(
                    population, lab, resolved,
                    private=private, drop=drop, secure=secure, seed=seed,
                    processes=processes or os.cpu_count() or 1, on_round=on_round,
                )  # fmt: skip
            except SimulationError as error:
                raise CommandError(str(error)) from error
        store.put(key, outcome)
    else:
        for point in outcome.history:
            _show_round(point, outcome.metric, as_json)
    if plot is not None:
        _plot(outcome, plot)
    if as_json:
        show(json.dumps(outcome.as_json()))
    else:
        _show(outcome)


def _check_cohort(resolved: ResolvedPlan, nodes: int) -> None:
    cohort = resolved.plan.privacy.cohort
    if cohort > nodes:
        raise CommandError(
            f"a cohort of {cohort} nodes, and the data make {nodes}: take a smaller --cohort, or "
            "other --clients-by"
        )


def _warn(resolved: ResolvedPlan) -> None:
    from federation.preview import preview

    for warning in preview(resolved.plan).warnings:
        say(f"warning: {warning}")


def _population(
    corpus: Path,
    queries: Path,
    limit: int | None,
    division: Division,
    unit: UnitName | None,
    score_by: Field,
    split: str,
) -> Population:
    """The data as nodes; a subject is a subclient if the lines name one and nothing was said."""
    from federation.simulation.population import Unit, build
    from retrieval import labelled

    try:
        passages = labelled.read_corpus(corpus)
        questions = labelled.read_queries(queries)
        if limit is not None:
            passages = labelled.limit(passages, limit)
        is_divided = all(passage.subclient for passage in passages) and all(
            question.subclient for question in questions
        )
        chosen = Unit.SUBCLIENT if is_divided else Unit.DOCUMENT
        return build(
            passages, questions, division, Unit(unit.value) if unit else chosen,
            score_by=score_by.value, split=split,
        )  # fmt: skip
    except labelled.DataError as error:
        raise CommandError(str(error)) from error


def _fields(plan: Path | None) -> dict[str, Any]:
    """The terms of a file, on top of what a simulation assumes."""
    from cli.coordinator.plan_file import read_plan_file

    fields: dict[str, Any] = {
        "population": "simulation",
        "federation": "simulation",
        "mode": "client",
        "rounds": DEFAULT_ROUNDS,
    }
    return fields if plan is None else fields | read_plan_file(plan)


def _lab(
    adapter: Kind,
    population: Population,
    fields: dict[str, Any],
    private: bool,
    rank: int | None,
    drop: float,
) -> tuple[Lab[Any], ResolvedPlan]:
    """What trains and scores the adapter of the simulation, and its plan."""
    from federation.plan_request import read_request, resolve
    from federation.planning import NOBODY
    from federation.simulation.generator import GeneratorLab
    from federation.simulation.retriever import RetrieverLab
    from federation.simulation.run import least_survivors
    from retrieval.embedding import Embedder

    embedder = None
    terms = fields.get("adapter", {})
    if adapter is Kind.RETRIEVER:
        with message_console().status("loading the embedder"):
            embedder = Embedder()
        terms |= {"base_model": embedder.identity, "dimension": embedder.dimension}
    else:
        terms = _generator_terms() | terms
    fields["adapter"] = {
        "rank": DEFAULT_RANKS[adapter],
        **terms,
        "kind": adapter.value,
        **({} if rank is None else {"rank": rank}),
    }
    cohort = fields.setdefault("cohort", len(population.nodes))
    if not private:
        fields.pop("epsilon", None)
        fields.setdefault("noise_multiplier", 1.0)
    elif "noise_multiplier" not in fields:
        fields.setdefault("epsilon", DEFAULT_EPSILON)
    if fields["mode"] != "client":
        subjects = sum(len(node.subjects) for node in population.nodes)
        fields.setdefault("planned_rows", subjects)
    if "min_survivors" not in fields and "drop_out" not in fields and type(cohort) is int:
        colluders = fields.get("colluders")
        fields["min_survivors"] = least_survivors(
            cohort, drop, colluders if type(colluders) is int else cohort // 10
        )
    try:
        resolved = resolve(read_request(fields), NOBODY)
        if embedder is None:
            return GeneratorLab(population, resolved), resolved
    except ValueError as error:
        raise CommandError(str(error)) from error
    return RetrieverLab(population, _vectors(population, resolved, embedder), resolved), resolved


def _generator_terms() -> dict[str, Any]:
    """The packaged generator, as a plan names it."""
    from federation.participant.base_models import generator_identity, generator_modules
    from storage.settings import PACKAGED

    with message_console().status("reading the generator"):
        modules = [asdict(module) for module in generator_modules(PACKAGED)]
        return {"base_model": generator_identity(PACKAGED), "modules": modules}


def _vectors(population: Population, resolved: ResolvedPlan, embedder: Embedder) -> KnownVectors:
    """Of all texts that a simulation meets."""
    from federation.simulation.retriever import public_texts
    from federation.simulation.vectors import embedded
    from generation.weights import user_cache
    from retrieval.vector_cache import VectorCache

    texts = list(dict.fromkeys([*population.texts(), *public_texts(resolved)]))
    cache = VectorCache(user_cache() / "embeddings", embedder.identity)
    with closing(cache), _embedding() as progress:
        return embedded(texts, embedder, cache, progress)


@contextmanager
def _embedding() -> Iterator[Callable[[str, int, int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = message_console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("texts embedded", total=None)
        yield lambda _, done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _rounds(rounds: int, as_json: bool, metric: str) -> Iterator[Callable[[str, Point], None]]:
    """A line for each round, and a bar for those of the comparison without noise."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = message_console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def on_round(which: str, point: Point) -> None:
            if which not in tasks:
                tasks[which] = bars.add_task(which.replace("_", " "), total=rounds)
            bars.advance(tasks[which], int(point.released))
            if which == "federated":
                _show_round(point, metric, as_json)

        yield on_round


def _show_round(point: Point, metric: str, as_json: bool) -> None:
    value = None if point.value is None else round(point.value, 4)
    if as_json:
        facts = {"round": point.number, "joined": point.joined, "survivors": point.survivors}
        show(json.dumps({**facts, "released": point.released, metric: value}))
        return
    quality = "" if value is None else f", {metric} {value:.4f}"
    failed = "" if point.released else ": too few, failed"
    show(f"round {point.number}: {point.survivors} of {point.joined} nodes{failed}{quality}")


def _show(outcome: Outcome) -> None:
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


def _check_plot(file: Path | None, adapter: Kind) -> None:
    """Refuse, before hours of training, a plot that could not be drawn."""
    if file is None:
        return
    from matplotlib.figure import Figure

    if adapter is Kind.GENERATOR:
        raise CommandError("a generator is scored at the end only: there is no curve to draw")
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


def _plot(outcome: Outcome, file: Path) -> None:
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
