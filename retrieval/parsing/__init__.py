"""Files of untrusted origin to text with structure.

`parse` decides the type by content, checks the file against its limits and reads it. Run it
through `retrieval.parse_worker` for anything that a stranger may have made.
"""

import csv
import stat
from pathlib import Path

from retrieval.parsing.office import markdown_document, parse_html, parse_office, tidy
from retrieval.parsing.pdf import parse_pdf
from retrieval.parsing.records import (
    MEBIBYTE,
    ParsedDocument,
    ParseError,
    ParseErrorCode,
    ParseLimits,
    Section,
    too_much_text,
)
from retrieval.parsing.tables import csv_table
from retrieval.parsing.text import clean, decode, text_media_type

__all__ = [
    "ParseError",
    "ParseErrorCode",
    "ParseLimits",
    "ParsedDocument",
    "Section",
    "parse",
    "parse_text",
]

_PDF_MARK, _PDF_END = b"%PDF-", b"%%EOF"
_ZIP_MARKS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_OLE_MARK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def parse(path: Path, name: str, limits: ParseLimits) -> ParsedDocument:
    """Read the file at `path`, called `name` by whoever brought it.

    The name only tells text formats apart (Markdown, CSV, plain text). Raises ParseError; a
    document that is returned has text in it.
    """
    try:
        size = _file_size(path)
        if size > limits.file_bytes:
            raise ParseError(
                "too_large",
                f"The file has {size / MEBIBYTE:,.0f} MiB; "
                f"at most {limits.file_bytes / MEBIBYTE:,.0f} MiB are accepted.",
            )
        if size == 0:
            raise ParseError("empty", "The file is empty.")
        document = _read(path, name, limits)
    except ParseError:
        raise
    except Exception as error:  # parsers raise anything on a file that was made to break them
        if _memory_ran_out(error):
            raise ParseError("out_of_memory", "Reading the file needs too much memory.") from error
        if isinstance(error, OSError) and error.strerror:
            raise ParseError("unreadable", f"The file cannot be read: {error.strerror}.") from error
        raise ParseError(
            "broken", f"The file is damaged and cannot be read ({type(error).__name__})."
        ) from error
    if len(document.text) > limits.text_characters:
        raise too_much_text(limits)
    if not document.sections:
        raise ParseError(
            "no_text", "There is no text in the file; scanned pages need OCR before they are added."
        )
    return document


def parse_text(text: str, name: str) -> ParsedDocument:
    """Read text that is already decoded; `name` tells HTML, Markdown, CSV and plain text apart."""
    text = clean(text)
    match text_media_type(text, name):
        case "text/html":
            return parse_html(text)
        case "text/markdown":
            return markdown_document("text/markdown", tidy(text))
        case "text/csv":
            try:
                return markdown_document("text/csv", csv_table(text))
            except csv.Error:
                pass  # then it is plain text under a wrong name
    sections = (Section((), 0, len(text)),) if text.strip() else ()
    return ParsedDocument("text/plain", None, text, sections, (), markdown=False)


def _read(path: Path, name: str, limits: ParseLimits) -> ParsedDocument:
    with path.open("rb") as file:
        head = file.read(1024)
    if head.startswith(_PDF_MARK):
        return parse_pdf(path, limits)
    if head.startswith(_ZIP_MARKS):
        return parse_office(path, limits)
    data = path.read_bytes()
    if _PDF_MARK in head and _PDF_END in data[-1024:]:  # readers allow for bytes around a PDF
        return parse_pdf(path, limits)
    if head.startswith(_OLE_MARK):
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise ParseError("encrypted", "The file is encrypted: save a copy without a password.")
        raise ParseError(
            "unsupported_type",
            "The file is in an Office format of before 2007: save it as DOCX, PPTX, XLSX or PDF.",
        )
    return parse_text(decode(data), name)


def _file_size(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ParseError("unreadable", "This is not a regular file.")
    return status.st_size


def _memory_ran_out(error: BaseException | None) -> bool:
    """Whether that is behind `error`, which may come from cleaning up afterwards."""
    while error and not isinstance(error, MemoryError):
        error = error.__context__
    return error is not None
