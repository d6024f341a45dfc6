"""DOCX, PPTX, XLSX and HTML to Markdown, by markitdown's converters and openpyxl."""

import io
import re
import warnings
import zipfile
from itertools import accumulate
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from retrieval.parsing.archive import DOCX, XLSX, inspect_archive
from retrieval.parsing.records import ParsedDocument, ParseError, ParseLimits
from retrieval.parsing.sections import markdown_headings, sections_below
from retrieval.parsing.tables import workbook_tables
from retrieval.parsing.text import clean, one_line

HTML = "text/html"

# Text goes to people and to a model: Markdown's escapes of _ and * would only be in the way.
_PLAIN: dict[str, Any] = {"escape_underscores": False, "escape_asterisks": False}
_TITLE_STYLE = "p[style-name='Title'] => h1:fresh"
_SLIDE = re.compile(r"\s*<!-- Slide number: \d+ -->\n?")
_GAP = "\n\n"
_IMAGE = re.compile(r"!\[([^\[\]]{0,2000})\]\([^()\s]{0,2000}(?:\s\"[^\"]{0,2000}\")?\)")
_DELIMITER_ROW = re.compile(r"^\|(?: --- \|)+$", re.MULTILINE)
_TITLE_ELEMENT = "{http://purl.org/dc/elements/1.1/}title"


def parse_office(path: Path, limits: ParseLimits) -> ParsedDocument:
    """Read a DOCX, PPTX or XLSX file whose every member has been inspected first."""
    media_type = inspect_archive(path, limits)
    page_starts: tuple[int, ...] = ()
    if media_type == XLSX:
        text = clean(workbook_tables(path, limits))
    elif media_type == DOCX:
        text = _convert("DocxConverter", path, style_map=_TITLE_STYLE, **_PLAIN)
    else:
        text, page_starts = _slides(_convert("PptxConverter", path), limits)
    return markdown_document(media_type, text, title=_core_title(path), page_starts=page_starts)


def parse_html(text: str) -> ParsedDocument:
    """Read the body of a web page; scripts and styles are dropped, nothing it names is fetched."""
    from markitdown import StreamInfo
    from markitdown.converters import HtmlConverter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # very deep nesting falls back to plain text
        result = HtmlConverter().convert(
            io.BytesIO(text.encode("utf-8", "replace")), StreamInfo(charset="utf-8"), **_PLAIN
        )
    title = one_line(result.title or "")
    return markdown_document(HTML, tidy(result.markdown), title=title or None)


def markdown_document(
    media_type: str, text: str, *, title: str | None = None, page_starts: tuple[int, ...] = ()
) -> ParsedDocument:
    """A document of clean Markdown.

    A heading of level 1 at its very beginning is its title, before `title` from its properties,
    which is often that of a template; without both the first heading of level 1 is.
    """
    headings = markdown_headings(text)
    sections = sections_below(headings, text)
    outermost = [heading for heading in headings if heading.level == 1 and heading.title]
    if outermost and (not text[: outermost[0].start].strip() or not title):
        title = outermost[0].title
        # The title goes with every chunk, so it needs none of its own.
        sections = tuple(s for s in sections if s.start != outermost[0].start) or sections
    return ParsedDocument(media_type, title, text, sections, page_starts, markdown=True)


def _convert(converter: str, path: Path, **options: Any) -> str:
    from markitdown import StreamInfo, converters

    with path.open("rb") as file:
        result = getattr(converters, converter)().convert(file, StreamInfo(), **options)
    return tidy(result.markdown)


def tidy(markdown: str) -> str:
    """Clean text, tables with short delimiter rows, and of images only the description.

    An image's address in an answer could make the reader's client fetch it.
    """
    text = _IMAGE.sub(r"\1", clean(markdown))
    return _DELIMITER_ROW.sub(lambda row: "|" + "-|" * (row[0].count("|") - 1), text)


def _slides(text: str, limits: ParseLimits) -> tuple[str, tuple[int, ...]]:
    """Take out markitdown's slide marks and note where each slide begins."""
    slides = _SLIDE.split(text)[1:]
    if len(slides) > limits.pages:
        raise ParseError(
            "too_many_pages",
            f"The file has {len(slides):,} slides; at most {limits.pages:,} are accepted.",
        )
    lengths = accumulate((len(slide) + len(_GAP) for slide in slides), initial=0)
    return _GAP.join(slides), tuple(lengths)[:-1]


def _core_title(path: Path) -> str | None:
    """The title in the document's properties (ECMA-376 part 2, 11)."""
    with zipfile.ZipFile(path) as archive:
        if "docProps/core.xml" not in archive.namelist():
            return None
        root = ElementTree.fromstring(archive.read("docProps/core.xml"))  # noqa: S314 - inspected
    title = one_line(root.findtext(_TITLE_ELEMENT) or "")
    return title if title.lower() not in ("", "powerpoint presentation", "word document") else None
