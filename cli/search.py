"""`alcove search`: the passages that fit a question best."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from cli.options import DEFAULT_HOME, AsJson, AssistantName, Home, json_object
from cli.output import show_json, show_table

LONGEST_EXCERPT = 240


class SearchMode(StrEnum):
    HYBRID = "hybrid"
    DENSE = "dense"
    LEXICAL = "lexical"


def search(
    query: Annotated[str, typer.Argument(help="A question or words.")],
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    limit: Annotated[int, typer.Option(help="How many passages.", min=1, max=100)] = 10,
    mode: Annotated[SearchMode, typer.Option(help="By meaning, by words, or both.")] = (
        SearchMode.HYBRID
    ),
    where: Annotated[
        str | None,
        typer.Option(
            "--filter", metavar="JSON",
            help='Only documents for which this holds, such as {"media_type": "text/markdown"}.',
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Find the passages that fit a question best."""
    from cli.client import node_client

    request = {
        "assistant": assistant,
        "query": query,
        "limit": limit,
        "mode": mode.value,
        "filter": json_object("--filter", where),
    }
    with node_client(home) as client:
        found = client.post("/v1/search", json=request).json()["data"]
    if as_json:
        show_json({"data": found})
        return
    columns = ("", "score", "document", "heading", "page", "passage")
    show_table(columns, [_row(place, hit) for place, hit in enumerate(found, 1)])


def excerpt(text: str) -> str:
    """The beginning of a passage on one line."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_EXCERPT else line[:LONGEST_EXCERPT] + " ..."


def _row(place: int, hit: dict[str, Any]) -> tuple[object, ...]:
    name = hit["external_id"] or hit["name"]
    return place, f"{hit['score']:.3f}", name, hit["heading"], hit["page"], excerpt(hit["text"])
