"""Labelled questions as JSON lines: what is read, and the line of what is wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from retrieval.labelled import (
    EVERYONE,
    DataError,
    Passage,
    Query,
    limit,
    read_corpus,
    read_queries,
)

PASSAGE = {"id": "p1", "text": "Zwölf Boxkämpfer", "title": "Sport", "client": "c"}
QUERY = {"id": "q1", "text": "How many?", "client": "c", "gold_ids": ["p1", "p2"], "split": "train"}


def write(path: Path, *lines: bytes | dict[str, Any]) -> Path:
    rows = [json.dumps(one).encode() if isinstance(one, dict) else one for one in lines]
    content = b"\n".join(rows) + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["file.jsonl", "file.jsonl.gz"])
def test_lines_become_records(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, PASSAGE, b"", b"   ", {"id": "p2", "text": "x", "more": [1]})
    assert read_corpus(path) == [
        Passage("p1", "Zwölf Boxkämpfer", "Sport", "c"),
        Passage("p2", "x", "", EVERYONE),
    ]
    path = write(tmp_path / f"q-{name}", QUERY, {"id": "q2", "text": "y", "gold_ids": []})
    assert read_queries(path) == [
        Query("q1", "How many?", "c", frozenset({"p1", "p2"}), "train"),
        Query("q2", "y", EVERYONE, frozenset(), "test"),
    ]


@pytest.mark.parametrize("name", ["file.jsonl", "file.jsonl.gz"])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (b'{"id": "p3", "text": ', "not JSON"),
        (b"id,text", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        ({"text": "x"}, "id is missing or not a text"),
        ({"id": 3, "text": "x"}, "id is missing or not a text"),
        ({"id": "p3"}, "text is missing or not a text"),
        ({"id": "p3", "text": " "}, "text is missing or not a text"),
        ({"id": "p1", "text": "again"}, "stood before"),
    ],
)
def test_a_line_of_the_corpus_that_is_wrong_is_named(
    tmp_path: Path, name: str, wrong: bytes | dict[str, Any], says: str
) -> None:
    path = write(tmp_path / name, PASSAGE, {**PASSAGE, "id": "p2"}, wrong)
    with pytest.raises(DataError, match=f"{name}, line 3: .*{says}"):
        read_corpus(path)


@pytest.mark.parametrize("gold", [None, "p1", [1], {"p1": 1}, [["p1"]]])
def test_a_question_without_a_list_of_passages_is_named(tmp_path: Path, gold: Any) -> None:
    path = write(tmp_path / "q.jsonl", QUERY, {**QUERY, "gold_ids": gold})
    with pytest.raises(DataError, match="line 2: gold_ids is a list"):
        read_queries(path)


@pytest.mark.parametrize("damage", ["cut", "not gzip", "other bytes"])
def test_a_damaged_archive_is_named(tmp_path: Path, damage: str) -> None:
    path = write(
        tmp_path / "file.jsonl.gz",
        *({**PASSAGE, "id": f"p{i}", "text": str(i) * 99} for i in range(500)),
    )
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "not gzip":
        content[:] = b"plain text"
    else:
        content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"file\.jsonl\.gz"):
        read_corpus(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_corpus(tmp_path / "none.jsonl")


def test_a_limit_keeps_the_same_passages_of_each_client_whatever_their_order() -> None:
    corpus = [Passage(f"p{i}", "x", "", f"c{i % 3}") for i in range(60)]
    kept = limit(corpus, 5)
    assert {client: sum(p.client == client for p in kept) for client in ("c0", "c1", "c2")} == {
        "c0": 5,
        "c1": 5,
        "c2": 5,
    }
    assert {p.id for p in limit(corpus[::-1], 5)} == {p.id for p in kept}
    assert {p.id for p in kept} < {p.id for p in limit(corpus, 6)}
    assert sorted(p.id for p in limit(corpus, 100)) == sorted(p.id for p in corpus)
