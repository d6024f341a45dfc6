"""`alcove evaluate`: how well labelled questions find their passages."""

from __future__ import annotations

from contextlib import closing, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.errors import CommandError
from cli.labelled_data import Corpus, Limit, Queries, Split, read_labelled
from cli.options import AsJson
from cli.output import message_console, show, show_json, show_table, stage_bars

METRICS = ("mrr@10", "recall@10", "ndcg@10")
# The hybrid's row is followed by that of an assistant that has learned no weight.
HYBRID = ("hybrid", "hybrid_default", "weights")


class Scope(StrEnum):
    CLIENT = "client"
    GLOBAL = "global"


class Mode(StrEnum):
    DENSE = "dense"
    LEXICAL = "lexical"
    HYBRID = "hybrid"
    ALL = "all"


def evaluate(
    corpus: Corpus,
    queries: Queries,
    scope: Annotated[
        Scope, typer.Option(help="client: search each client's own passages; global: all.")
    ] = Scope.CLIENT,
    split: Split = "test",
    limit: Limit = None,
    mode: Annotated[Mode, typer.Option(help="What to report.")] = Mode.ALL,
    cache: Annotated[
        Path | None, typer.Option(help="A folder that keeps the vectors for the next time.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure retrieval on labelled questions, with the code that serves a node.

    The weight of the hybrid is learned from the questions of the split `train`.
    """
    found = selected(_evaluate(corpus, queries, scope, split, limit, cache), mode)
    if as_json:
        show_json(found)
    else:
        _show(found)


def selected(found: dict[str, Any], mode: Mode) -> dict[str, Any]:
    """The counts and what concerns a mode."""
    kept = HYBRID if mode is Mode.HYBRID else (mode.value,)
    left_out = set() if mode is Mode.ALL else {"dense", "lexical", *HYBRID} - set(kept)
    return {name: value for name, value in found.items() if name not in left_out}


def _evaluate(
    corpus: Path, queries: Path, scope: Scope, split: str, limit: int | None, cache: Path | None
) -> dict[str, Any]:
    from cli import logs

    logs.configure("command")
    passages, questions = read_labelled(corpus, queries, limit)

    # Only now what takes seconds to import: a wrong file is reported at once.
    from retrieval import evaluate as evaluation
    from retrieval.embedding import Embedder, EmbedderError
    from retrieval.labelled import DataError
    from retrieval.vector_cache import VectorCache

    try:
        with message_console().status("loading the embedder"):
            embedder = Embedder()
        vectors = nullcontext() if cache is None else closing(VectorCache(cache, embedder.identity))
        with vectors as kept, stage_bars() as progress:
            return evaluation.evaluate(
                passages, questions, embedder,
                scope=scope.value, split=split, cache=kept, progress=progress,
            ).as_json()  # fmt: skip
    except (DataError, EmbedderError) as error:
        raise CommandError(str(error)) from error


def _show(found: dict[str, Any]) -> None:
    show(f"{found['queries']} questions, {found['passages']} passages, {found['clients']} clients")
    rows = [
        (name, *(f"{values[metric]:.3f}" for metric in METRICS))
        for name, values in found.items()
        if isinstance(values, dict) and METRICS[0] in values
    ]
    show_table(("mode", *METRICS), rows)
    if "weights" in found:
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in found["weights"].items())
        show(f"fitted lexical weights: {weights}")
