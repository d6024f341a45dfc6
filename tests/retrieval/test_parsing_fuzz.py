"""Damaged real files: each is read or refused, and the worker lives on or is replaced."""

import io
import random
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.parse_worker import ParseWorker
from retrieval.parsing import ParseError
from tests.retrieval import documents

# What a limit or a crash would say is left out: no small damaged file may come to that.
ANSWERS = {
    "read",
    "broken",
    "encrypted",
    "no_text",
    "unsupported_type",
    "empty",
    "expands_too_much",
}
PAGES = [[f"Line {n} tells of the lamp, the horn and the tide."] * 9 for n in range(4)]
MARKDOWN = (
    "# Log\n\n| Day | Oil |\n|---|---|\n| one | 2 |\n\n> *Fog* [all](x) `day`\n\n```\nx\n```\n"
)
SEEDS = {
    "a.pdf": documents.pdf(PAGES, title="Log", outline=[(0, "One", 0), (2, "Two", 1)]),
    "a.docx": documents.word(paragraphs=3),
    "a.pptx": documents.slides(),
    "a.xlsx": documents.workbook(),
    "a.html": b"<!DOCTYPE html><html><body><table><tr><td>1</table><p>Lamp <b>oil</body></html>",
    "a.md": MARKDOWN.encode(),
    "a.csv": '"a;b",c\r\n1;"2\n3"\r\n'.encode("utf-16"),
}


def mutated(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        at, length = chance.randrange(len(changed) + 1), chance.choice((1, 1, 4, 64, 1000))
        match chance.randrange(5):
            case 0:
                changed[at : at + length] = chance.randbytes(length)
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = changed[at : at + length] * chance.choice((1, 2, 50))
            case 3:
                changed[at : at + 1] = chance.choice(b"0123456789-<>/&;[]()|\0\xff").to_bytes()
            case 4 if chance.random() < 0.2:
                del changed[at:]
    return bytes(changed)


def mutated_member(data: bytes, chance: random.Random) -> bytes:
    """Damage one part inside an Office file, so that it gets past the archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        name = chance.choice([name for name in file.namelist() if name.endswith((".xml", ".rels"))])
        return documents.with_member(data, name, mutated(file.read(name), chance))


def fuzz(folder: Path, seed: int, count: int) -> Counter[tuple[str, str]]:
    chance = random.Random(seed)
    outcomes: Counter[tuple[str, str]] = Counter()
    limits = replace(documents.LIMITS, seconds=120)
    with ParseWorker(limits, documents.TOKENIZER, documents.MAX_TOKENS) as worker:
        for n in range(count):
            name = chance.choice(list(SEEDS))
            office = name.endswith("x") and chance.random() < 0.7
            path = folder / f"{seed}-{n}"
            path.write_bytes((mutated_member if office else mutated)(SEEDS[name], chance))
            try:
                document = worker.parse(path, name)
            except ParseError as error:
                outcomes[name, error.code] += 1
                assert error.code in ANSWERS, f"{error.code} on {path}"
            else:
                outcomes[name, "read"] += 1
                assert document.chunks
                assert max(chunk.tokens for chunk in document.chunks) <= documents.MAX_TOKENS
            path.unlink()
    return outcomes


def test_damaged_files(tmp_path):
    outcomes = fuzz(tmp_path, seed=1, count=150)
    assert {name for name, _ in outcomes} == set(SEEDS)
    assert {code for _, code in outcomes} >= {"read", "broken"}


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(2, 8))
def test_many_damaged_files(tmp_path, seed):
    outcomes = fuzz(tmp_path, seed, count=1500)
    assert outcomes.total() == 1500
