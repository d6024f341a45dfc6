"""Chunks hold all the text, in order, and fit the embedder."""

import json
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from retrieval.chunking import Chunk, Chunker
from retrieval.parsing import ParsedDocument, parse_text
from retrieval.parsing.records import Section
from tests.retrieval.documents import MAX_TOKENS, TOKENIZER

CHUNKER = Chunker(TOKENIZER, MAX_TOKENS)
SMALL = Chunker(TOKENIZER, 32)
# The model's own tokenizer, freed of the limit that its file sets.
ORACLE = Tokenizer.from_file(str(TOKENIZER))
ORACLE.no_truncation()
ORACLE.no_padding()

SENTENCE = "the keeper of the light house walks down to the harbour with oil for lamps"
PROSE = " ".join(f"On day {day} {SENTENCE}." for day in range(600))


def check(document: ParsedDocument, chunks: tuple[Chunk, ...], max_tokens: int) -> None:
    """What holds for any document."""
    text = document.text
    assert [chunk.position for chunk in chunks] == list(range(len(chunks)))
    lost = list(text)
    previous = 0
    for chunk in chunks:
        assert previous <= chunk.start < chunk.end <= len(text)
        previous = chunk.end
        assert chunk.text.endswith(text[chunk.start : chunk.end])
        assert chunk.tokens == len(ORACLE.encode(chunk.embedded_text).ids) <= max_tokens
        lost[chunk.start : chunk.end] = " " * (chunk.end - chunk.start)
    lines = [line for line in "".join(lost).splitlines() if line.strip(string.whitespace + "\x1f")]
    headings = {part for section in document.sections for part in section.path} | {document.title}
    for line in lines:
        if document.markdown and re.fullmatch(r"\s*(#{1,6}|=+|-+)(\s+#*)?\s*", line):
            continue  # what only marks a heading
        assert any(heading and heading in line for heading in headings), line


_inline = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=60)
_line = st.one_of(
    _inline,
    st.sampled_from(
        ["", "# One", "## Two #", "###### Six", "Title", "===", "---", "```", "- item"]
    ),
    st.sampled_from(["| a | b |", "|-|-|", "| --- | :-: |", "| 1 | 2 |", "a|b", "    code", "> q"]),
    st.lists(st.sampled_from(SENTENCE.split()), max_size=120).map(" ".join),
    st.integers(1, 9000).map(lambda n: "x" * n),
    st.integers(1, 300).map(lambda n: "灯台守の話。" * n),
)


@settings(max_examples=100, deadline=None)
@given(lines=st.lists(_line, max_size=25), name=st.sampled_from(["a.md", "a.txt", "a.csv"]))
def test_any_text_is_kept_within_the_limit(lines, name):
    document = parse_text("\n".join(lines), name)
    for chunker, most in ((CHUNKER, MAX_TOKENS), (SMALL, 32)):
        chunks = chunker.chunk(document)
        check(document, chunks, most)
        assert chunker.chunk(document) == chunks


def test_long_prose_fills_chunks_and_ends_them_with_sentences():
    document = parse_text(PROSE, "a.txt")
    chunks = CHUNKER.chunk(document)
    check(document, chunks, MAX_TOKENS)
    assert all(chunk.text.endswith(".") for chunk in chunks)
    assert min(chunk.tokens for chunk in chunks[:-1]) > 0.9 * MAX_TOKENS


def test_counts_ignore_the_truncation_and_padding_of_the_tokenizer_file():
    file = json.loads(TOKENIZER.read_text())
    assert file["truncation"]["max_length"] == 128
    assert file["padding"]["strategy"] == {"Fixed": 128}
    (short,) = CHUNKER.chunk(parse_text("lamp", "a.txt"))
    assert short.tokens == 3  # [CLS] lamp [SEP]
    (longer,) = CHUNKER.chunk(parse_text("lamp " * 200, "a.txt"))
    assert longer.tokens == 202


def test_the_limit_is_exact():
    just = parse_text("lamp " * (MAX_TOKENS - 2), "a.txt")
    assert [chunk.tokens for chunk in CHUNKER.chunk(just)] == [MAX_TOKENS]
    over = parse_text("lamp " * (MAX_TOKENS - 1), "a.txt")
    assert [chunk.tokens for chunk in CHUNKER.chunk(over)] == [MAX_TOKENS, 3]


def test_chunks_know_their_headings_and_do_not_cross_them():
    text = f"# Guide\n\nWelcome.\n\n## Lamp\n\n{PROSE[:3000]}\n\n### Oil\n\nWhale oil.\n"
    chunks = CHUNKER.chunk(parse_text(text, "a.md"))
    assert chunks[0].heading == "Guide"
    assert {chunk.heading for chunk in chunks[1:-1]} == {"Guide > Lamp"}
    assert chunks[-1].heading == "Guide > Lamp > Oil"
    assert chunks[-1].embedded_text == "Guide > Lamp > Oil\nWhale oil."
    assert len(chunks) > 4


def test_headings_leave_room_for_the_text():
    title = "A very long title " * 40
    text = f"# {title}\n\n## {title}\n\n## Fees\n\n{PROSE[:2000]}"
    document = parse_text(text, "a.md")
    for chunker, most in ((CHUNKER, MAX_TOKENS), (SMALL, 32)):
        chunks = chunker.chunk(document)
        check(document, chunks, most)
        assert chunks[-1].heading == "Fees"
        assert all(len(ORACLE.encode(chunk.heading).ids) <= most // 4 for chunk in chunks)


def test_rows_are_whole_and_below_the_header():
    rows = [f"Lamp {n},{n % 7},{n / 4}" for n in range(300)]
    document = parse_text("\n".join(["Name,Shelf,Price", *rows]), "stock.csv")
    chunks = CHUNKER.chunk(document)
    check(document, chunks, MAX_TOKENS)
    assert len(chunks) > 10
    seen = []
    for chunk in chunks:
        header, delimiter, *body = chunk.text.split("\n")
        assert (header, delimiter) == ("| Name | Shelf | Price |", "|-|-|-|")
        seen += [line.strip("| ").replace(" | ", ",") for line in body]
    assert seen == rows


def test_bars_of_tables_are_shown_but_not_embedded():
    table = "| Port | Tide - high |\n| :--- | -: |\n| Inch \\| Ness | -3 |\n| - |  |"
    (chunk,) = CHUNKER.chunk(parse_text(f"# Tides\na | b\n\n{table}", "a.md"))
    assert chunk.text == f"a | b\n\n{table}"
    assert chunk.embedded_text == "Tides\na | b\n\nPort Tide - high\n\nInch Ness -3\n"


def test_a_table_inside_prose_is_cut_by_rows():
    table = "\n".join(
        ["| Port | Tide |", "| :--- | ---: |"] + [f"| Inch {n} | {n} |" for n in range(90)]
    )
    chunks = CHUNKER.chunk(parse_text(f"# Tides\n\n{PROSE[:900]}\n\n{table}\n\nAfter.", "a.md"))
    tables = [chunk for chunk in chunks if "Inch" in chunk.text]
    assert len(tables) >= 3
    assert all(
        chunk.text.startswith("| Port | Tide |\n| :--- | ---: |\n| Inch") for chunk in tables
    )
    assert chunks[-1].text == "After."


def test_a_header_too_wide_to_repeat_is_kept_once():
    header = ",".join(f"measurement number {n}" for n in range(60))
    document = parse_text("\n".join([header, *(",".join(["7"] * 60) for _ in range(20))]), "a.csv")
    chunks = CHUNKER.chunk(document)
    check(document, chunks, MAX_TOKENS)
    assert "".join(chunk.text for chunk in chunks).count("number 59 |") == 1


def test_pages_are_where_chunks_begin():
    pages = ["First page.\n", PROSE[:4000] + "\n", "Last page."]
    starts = (0, len(pages[0]), len(pages[0]) + len(pages[1]))
    text = "".join(pages)
    document = ParsedDocument(
        "application/pdf", None, text, (Section((), 0, len(text)),), starts, markdown=False
    )
    chunks = CHUNKER.chunk(document)
    assert chunks[0].page == 1
    assert {chunk.page for chunk in chunks[1:]} == {2}
    assert chunks[-1].text.endswith("Last page.")


@pytest.mark.parametrize(
    "text", ["x" * 50_000, "灯" * 9_000, "e\u0301" * 9_000, "👩\u200d👧" * 3_000]
)
def test_text_without_blanks_is_cut_too(text):
    document = parse_text(text, "a.txt")
    chunks = CHUNKER.chunk(document)
    check(document, chunks, MAX_TOKENS)
    assert max(len(chunk.text) for chunk in chunks) <= 16 * MAX_TOKENS


def test_a_limit_too_small_to_hold_text_is_refused():
    with pytest.raises(ValueError, match="max_tokens must be at least 32, not 31"):
        Chunker(TOKENIZER, 31)
