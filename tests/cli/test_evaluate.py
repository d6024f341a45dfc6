"""`alcove evaluate` on a corpus whose answers are known, as the page shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cli.evaluate import Mode, selected
from tests.cli.commands import refusal, run, run_json
from tests.forked import ROOT

ANIMALS = "heron otter badger lynx stoat marten osprey beaver".split()


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, ...]:
    """Each passage names an animal of its own, and each question the animal of its passage."""
    corpus = [
        {"id": f"p{n}", "text": f"Notes on the {name}.", "title": "", "client": "zoo"}
        for n, name in enumerate(ANIMALS)
    ]
    queries = [
        {
            "id": f"q{n}", "text": f"What about the {name}?", "client": "zoo",
            "gold_ids": [f"p{n}"], "split": "train" if n % 2 else "test",
        }
        for n, name in enumerate(ANIMALS)
    ]  # fmt: skip
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return ("evaluate", "--corpus", f"{tmp_path}/corpus.jsonl", "--queries",
            f"{tmp_path}/queries.jsonl")  # fmt: skip


def test_words_that_only_the_answer_has_are_found_first(data: tuple[str, ...]) -> None:
    found = run_json(*data)
    assert (found["queries"], found["passages"], found["clients"]) == (4, 8, 1)
    for mode in ("dense", "lexical", "hybrid"):
        assert set(found[mode]) == {"mrr@10", "recall@10", "ndcg@10"}
    assert found["lexical"] == {"mrr@10": 1.0, "recall@10": 1.0, "ndcg@10": 1.0}
    assert selected(found, Mode.ALL) == found
    assert set(selected(found, Mode.DENSE)) == {"queries", "passages", "clients", "dense"}
    assert {"hybrid", "weights"} < set(selected(found, Mode.HYBRID)) - {"lexical", "dense"}


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("corpus", '{"id": "p0"}', "line 1: text is missing"),
        ("queries", '{"id": ', "not JSON"),
        ("queries", None, "No such file"),
    ],
)
def test_files_of_another_layout_are_refused(
    data: tuple[str, ...], tmp_path: Path, file: str, content: str | None, reason: str
) -> None:
    path = tmp_path / f"{file}.jsonl"
    path.unlink()
    if content is not None:
        path.write_text(content)
    message = refusal(run(*data))
    assert str(path) in message and reason in message


def test_the_page_shows_this_command(data: tuple[str, ...]) -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    shown = re.findall(r"^alcove (evaluate .*)$", page, re.MULTILINE)
    names = [re.sub(r"\S*/", "", part) for part in data]
    assert shown == [" ".join((*names, "--json"))]
