"""`alcove simulate`: what a federation would bring, tried on labelled data without any node."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import CommandError
from cli.labelled_data import Corpus, Limit, Queries, Split, read_labelled
from cli.options import AsJson, given
from cli.output import message_console, say, show, stage_bars
from cli.simulation_output import (
    check_plot,
    draw,
    round_lines,
    show_outcome,
    show_round,
)

if TYPE_CHECKING:
    from federation.plan_request import ResolvedPlan
    from federation.simulation.population import Division, Population
    from federation.simulation.run import Lab
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
    corpus: Corpus,
    queries: Queries,
    clients_by: Annotated[
        str, typer.Option(help="What a node is: client, subclient, or group:N for N groups.")
    ] = "client",
    score_by: Annotated[
        Field, typer.Option(help="Within what a question's passage is looked for.")
    ] = Field.CLIENT,
    split: Split = "test",
    limit: Limit = None,
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
    _check(mode, epsilon, secure, adapter, plot)
    population = _population(corpus, queries, limit, division, unit, score_by, split)
    if adapter is Kind.GENERATOR:
        population = population.with_questions(SCORED_ANSWERS)
    fields = _fields(plan) | given(
        epsilon=epsilon, delta=delta, rounds=rounds, cohort=cohort,
        max_participations=participations, colluders=colluders,
    )  # fmt: skip
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
        with round_lines(resolved.plan.privacy.rounds, as_json, lab.metric) as on_round:
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
            show_round(point, outcome.metric, as_json)
    if plot is not None:
        draw(outcome, plot)
    if as_json:
        show(json.dumps(outcome.as_json()))
    else:
        show_outcome(outcome)


def _check(
    mode: SimulatedMode | None,
    epsilon: float | None,
    secure: bool,
    adapter: Kind,
    plot: Path | None,
) -> None:
    """Refuse at once what does not go together."""
    if mode is SimulatedMode.NONE and (epsilon is not None or secure):
        raise CommandError("mode none has no epsilon and nothing to aggregate securely")
    if plot is not None:
        if adapter is Kind.GENERATOR:
            raise CommandError("a generator is scored at the end only: there is no curve to draw")
        check_plot(plot)


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
    from retrieval.labelled import DataError

    passages, questions = read_labelled(corpus, queries, limit)
    is_divided = all(passage.subclient for passage in passages) and all(
        question.subclient for question in questions
    )
    chosen = Unit.SUBCLIENT if is_divided else Unit.DOCUMENT
    try:
        return build(
            passages, questions, division, Unit(unit.value) if unit else chosen,
            score_by=score_by.value, split=split,
        )  # fmt: skip
    except DataError as error:
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
    with closing(cache), stage_bars() as progress:
        return embedded(texts, embedder, cache, progress)
