"""The example documents: what they promise, and that they can be read and rebuilt."""

import io
import json
import re
import runpy
import zipfile
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from retrieval.parsing import ParsedDocument, parse
from tests.retrieval.documents import LIMITS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BUILD = runpy.run_path(str(EXAMPLES / "build.py"))
ORGANISATIONS = sorted(
    path.name for path in EXAMPLES.iterdir() if path.is_dir() and "-" in path.name
)
DOCUMENTS = sorted(path for name in ORGANISATIONS for path in (EXAMPLES / name).iterdir())
QUESTIONS = [json.loads(line) for line in (EXAMPLES / "questions.jsonl").read_text().splitlines()]
WORDS_PER_PAGE = 300


@cache
def parsed(path: Path) -> ParsedDocument:
    return parse(path, path.name, LIMITS)


def test_four_organisations_30_pages_and_many_formats():
    assert len(ORGANISATIONS) >= 3
    assert {path.suffix for path in DOCUMENTS} >= {".pdf", ".docx", ".html", ".md", ".csv"}
    words = sum(len(re.findall(r"\w+", parsed(path).text)) for path in DOCUMENTS)
    assert words >= 30 * WORDS_PER_PAGE
    assert sum(path.stat().st_size for path in DOCUMENTS) < 2_000_000


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_document_has_text_below_headings(path):
    document = parsed(path)
    assert len(document.text) > 1500
    if path.suffix not in (".csv", ".txt"):
        assert len(document.sections) >= 3
    if path.suffix == ".pdf":
        assert len(document.page_starts) >= 3


@pytest.mark.parametrize("organisation", ORGANISATIONS)
def test_questions_are_answered_in_the_file_they_name(organisation):
    asked = [row for row in QUESTIONS if row["organisation"] == organisation]
    answered = [row for row in asked if row["answer"]]
    assert len(answered) >= 15
    assert len(asked) - len(answered) >= 3
    for row in answered:
        text = " ".join(parsed(EXAMPLES / organisation / row["file"]).text.split())
        assert row["answer"] in text, row["question"]
    for row in asked:
        assert (row["answer"] is None) == (row["file"] is None)
    assert {row["file"] for row in answered} == {
        path.name for path in DOCUMENTS if path.parent.name == organisation
    }
    assert max(Counter(row["question"] for row in asked).values()) == 1


@pytest.mark.parametrize("source", BUILD["FORMATS"])
def test_the_committed_files_are_those_that_the_sources_make(source):
    suffix = BUILD["FORMATS"][source]
    committed = (EXAMPLES / source).with_suffix(f".{suffix}")
    made = BUILD["MAKERS"][suffix]((EXAMPLES / "sources" / source).read_text("utf-8"))
    if suffix == "pdf":
        assert made == committed.read_bytes()
    else:
        assert members(made) == members(committed.read_bytes())


def members(data: bytes) -> dict[str, bytes]:
    """What an Office file holds; its compression depends on the version of zlib."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}
