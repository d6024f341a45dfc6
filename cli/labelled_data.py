"""Labelled questions and their passages, as `evaluate` and `simulate` take them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import CommandError

if TYPE_CHECKING:
    from retrieval.labelled import Passage, Query

Corpus = Annotated[
    Path,
    typer.Option(
        help="JSON lines with id, text, client, if known title and subclient; plain or gzip."
    ),
]
Queries = Annotated[
    Path,
    typer.Option(help="JSON lines with id, text, client, gold_ids, split, if known subclient."),
]
Split = Annotated[str, typer.Option(help="The questions to score with.")]
Limit = Annotated[int | None, typer.Option(help="At most so many passages of each client.", min=1)]


def read_labelled(
    corpus: Path, queries: Path, limit: int | None
) -> tuple[list[Passage], list[Query]]:
    """The passages that `limit` leaves, and all questions.

    Raises:
        CommandError: a file cannot be read or has a wrong line.
    """
    from retrieval import labelled

    try:
        passages = labelled.read_corpus(corpus)
        questions = labelled.read_queries(queries)
    except labelled.DataError as error:
        raise CommandError(str(error)) from error
    return (passages if limit is None else labelled.limit(passages, limit)), questions
