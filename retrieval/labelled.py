"""Labelled questions and their corpus as JSON lines, plain or gzipped.

A corpus line is `{"id", "text", "title", "client", "subclient"}`, a question is `{"id", "text",
"answer", "client", "subclient", "gold_ids", "split"}`; further fields are ignored. Only `id`,
`text` and `gold_ids` have to be there.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVERYONE = "all"


class DataError(ValueError):
    """A file is not of the layout described above; the message names the line."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A line of the corpus."""

    id: str
    text: str
    title: str
    client: str
    subclient: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A line of the questions."""

    id: str
    text: str
    client: str
    gold_ids: frozenset[str]
    split: str
    subclient: str = ""
    answer: str | None = None


def limit(corpus: Sequence[Passage], most: int) -> list[Passage]:
    """At most `most` passages of each client, chosen by hash, so that a subset stays the same."""
    by_client: dict[str, list[Passage]] = defaultdict(list)
    for passage in corpus:
        by_client[passage.client].append(passage)
    return [
        passage
        for own in by_client.values()
        for passage in sorted(own, key=lambda p: hashlib.sha256(p.id.encode()).digest())[:most]
    ]


def read_corpus(path: Path) -> list[Passage]:
    """Raises DataError or OSError."""
    passages: dict[str, Passage] = {}
    for line, row in _lines(path):
        passage = Passage(
            id=_text(row, "id", path, line),
            text=_text(row, "text", path, line),
            title=str(row.get("title") or ""),
            client=str(row.get("client") or EVERYONE),
            subclient=str(row.get("subclient") or ""),
        )
        if passages.setdefault(passage.id, passage) is not passage:
            raise DataError(f"{path}, line {line}: the id {passage.id!r} stood before")
    return list(passages.values())


def read_queries(path: Path) -> list[Query]:
    """Raises DataError or OSError."""
    queries = []
    for line, row in _lines(path):
        gold = row.get("gold_ids")
        if not isinstance(gold, list) or not all(isinstance(item, str) for item in gold):
            raise DataError(f"{path}, line {line}: gold_ids is a list of passage ids")
        queries.append(
            Query(
                id=_text(row, "id", path, line),
                text=_text(row, "text", path, line),
                client=str(row.get("client") or EVERYONE),
                gold_ids=frozenset(gold),
                split=str(row.get("split") or "test"),
                subclient=str(row.get("subclient") or ""),
                answer=None if row.get("answer") is None else str(row["answer"]),
            )
        )
    return queries


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, _object(line, path, number)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}, after line {number}: damaged gzip: {error}") from error


def _object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {number}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number}: not a JSON object")
    return row


def _text(row: dict[str, Any], name: str, path: Path, line: int) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{path}, line {line}: {name} is missing or not a text")
    return value
