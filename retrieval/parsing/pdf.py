"""PDF by pypdfium2: text in reading order, page starts, and sections from the outline."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pypdfium2  # type: ignore[import-untyped]

from retrieval.parsing.records import ParsedDocument, ParseError, ParseLimits, too_much_text
from retrieval.parsing.sections import Heading, sections_below
from retrieval.parsing.text import clean, one_line

PDF = "application/pdf"
_PASSWORD, _SECURITY = 4, 5  # FPDF_ERR_* of pdfium's fpdfview.h
_MOST_BOOKMARKS = 10_000
_SHORTEST_FULL_LINE = 45
_FEWEST_RUNNING = 3
_SENTENCE_ENDS = (".", "!", "?", ":")
_NUMBER = re.compile(r"\d+")
_HYPHENATED = re.compile("(?<=\\w)[\x02\ufffe](?:\r?\n)?")
_BULLET = re.compile(r"[•◦‣▪·*–-]\s|\(?[0-9a-zA-Z]{1,3}[.)]\s")


def parse_pdf(path: Path, limits: ParseLimits) -> ParsedDocument:
    """Read the text layer of a PDF; nothing in it is run, rendered or fetched."""
    try:
        pdf = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (_PASSWORD, _SECURITY):
            raise ParseError(
                "encrypted", "The PDF is protected by a password: save a copy without one."
            ) from error
        raise ParseError("broken", "The PDF is damaged or incomplete.") from error
    with pdf:
        if len(pdf) > limits.pages:
            raise ParseError(
                "too_many_pages",
                f"The PDF has {len(pdf):,} pages; at most {limits.pages:,} are accepted.",
            )
        text, page_starts = _read_pages(pdf, limits)
        title = one_line(pdf.get_metadata_value("Title"))
        headings = _outline(pdf, text, page_starts)
    return ParsedDocument(
        media_type=PDF,
        title=title if title.lower() not in ("", "untitled", "(unspecified)") else None,
        text=text,
        sections=sections_below(headings, text),
        page_starts=page_starts,
        markdown=False,
    )


def _read_pages(pdf: pypdfium2.PdfDocument, limits: ParseLimits) -> tuple[str, tuple[int, ...]]:
    pages: list[list[str]] = []
    left = limits.text_characters
    for number in range(len(pdf)):
        try:
            page = pdf[number]
            textpage = page.get_textpage()
        except pypdfium2.PdfiumError as error:
            raise ParseError("broken", f"Page {number + 1} of the PDF is damaged.") from error
        raw = textpage.get_text_range(errors="replace")
        textpage.close()
        page.close()
        left -= len(raw)
        if left < 0:
            raise too_much_text(limits)
        lines = clean(_HYPHENATED.sub("", raw)).split("\n")
        pages.append([line.strip() for line in lines if line.strip()])
    return _joined(_reflow(lines) for lines in _without_running_lines(pages))


def _without_running_lines(pages: list[list[str]]) -> list[list[str]]:
    """Keep head and foot lines that most pages share, numbers aside, only where they come first.

    Further down they would cut into sentences that run on over the page.
    """
    edges = Counter(_NUMBER.sub("#", line) for page in pages for line in {*page[:1], *page[-1:]})
    most = max(_FEWEST_RUNNING, 0.6 * len(pages))
    running = {line: False for line, times in edges.items() if times >= most}  # seen before?

    def repeats(line: str) -> bool:
        numberless = _NUMBER.sub("#", line)
        seen = running.get(numberless, False)
        if numberless in running:
            running[numberless] = True
        return seen

    kept: list[list[str]] = []
    for page in pages:
        body = page[1:] if page and repeats(page[0]) else page
        kept.append(body[:-1] if body and len(page) > 1 and repeats(body[-1]) else body)
    return kept


def _reflow(lines: list[str]) -> str:
    """Undo line wrapping: a full line that ends inside a sentence continues on the next."""
    full = max(_SHORTEST_FULL_LINE, 0.7 * max(map(len, lines), default=0))
    joined: list[str] = []
    wrapped = False
    for line in lines:
        if wrapped and not _BULLET.match(line):
            joined[-1] += " " + line
        else:
            joined.append(line)
        wrapped = len(line) >= full and not line.endswith(_SENTENCE_ENDS)
    return "\n".join(joined)


def _joined(pages: Iterable[str]) -> tuple[str, tuple[int, ...]]:
    """One text, in which a sentence may run on over the page, and where each page begins."""
    parts: list[str] = []
    starts: list[int] = []
    length = 0
    for page in pages:
        if parts and page:
            goes_on = page[0].islower() and not parts[-1].endswith(_SENTENCE_ENDS)
            parts.append(" " if goes_on else "\n")
            length += 1
        starts.append(length)
        if page:
            parts.append(page)
            length += len(page)
    return "".join(parts), tuple(starts)


def _outline(
    pdf: pypdfium2.PdfDocument, text: str, page_starts: tuple[int, ...]
) -> tuple[Heading, ...]:
    """The outline's entries as headings, each placed where its title stands on its page."""
    headings: list[Heading] = []
    earliest = 0
    for bookmark in islice(pdf.get_toc(), _MOST_BOOKMARKS):
        destination = bookmark.get_dest()
        page = destination.get_index() if destination else None
        title = one_line(bookmark.get_title())
        if page is None or not 0 <= page < len(page_starts) or not title:
            continue
        page_end = page_starts[page + 1] if page + 1 < len(page_starts) else len(text)
        line = re.compile(rf"^{re.escape(title)}[ \t]*$", re.MULTILINE)
        found = line.search(text, max(earliest, page_starts[page]), page_end)
        start, body = (found.start(), found.end()) if found else (page_starts[page],) * 2
        if start < earliest:
            continue  # an outline out of reading order says nothing about where sections end
        headings.append(Heading(bookmark.level + 1, title, start, body))
        earliest = body
    return tuple(headings)
