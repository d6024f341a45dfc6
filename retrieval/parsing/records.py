"""What parsing takes and gives: limits, a parsed document, and the reasons a file is refused."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from storage.settings import NodeSettings

MEBIBYTE = 1 << 20
TEXT_CHARACTERS = 20_000_000
"""Of one document: as many as 20 MB of plain text, thousands of pages."""

ParseErrorCode = Literal[
    "too_large",
    "expands_too_much",
    "too_many_pages",
    "too_much_text",
    "empty",
    "no_text",
    "unsupported_type",
    "broken",
    "encrypted",
    "unreadable",
    "timeout",
    "out_of_memory",
    "crashed",
]


class ParseError(Exception):
    """A file that cannot be ingested: a stable `code` for programs, a `message` for people."""

    def __init__(self, code: ParseErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """The most that one file may cost.

    `file_bytes` bounds the file itself, `expanded_bytes` the sum of all members of an archive
    (DOCX, PPTX, XLSX) after decompression, `pages` the pages of a PDF or the slides of a PPTX,
    `text_characters` the extracted text. `memory_bytes` (address space) and `seconds` (both of
    CPU and of the clock) are enforced by `retrieval.parse_worker.ParseWorker` only.
    """

    file_bytes: int
    expanded_bytes: int
    pages: int
    text_characters: int
    memory_bytes: int
    seconds: int

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    @staticmethod
    def of(settings: NodeSettings) -> ParseLimits:
        """What the owner allows."""
        return ParseLimits(
            file_bytes=settings.max_file_bytes,
            expanded_bytes=settings.max_expanded_bytes,
            pages=settings.max_pages,
            text_characters=TEXT_CHARACTERS,
            memory_bytes=settings.parse_memory_bytes,
            seconds=settings.parse_seconds,
        )


def too_much_text(limits: ParseLimits) -> ParseError:
    return ParseError(
        "too_much_text",
        f"The file holds more than {limits.text_characters:,} characters of text: split it.",
    )


@dataclass(frozen=True, slots=True)
class Section:
    """The body below one heading: `text[start:end]` of its document, without the heading line.

    `path` holds the headings above it, outermost first; it is empty before the first heading.
    """

    path: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The text of one file and its structure.

    `sections` are in order, do not overlap and together cover every character of `text` but
    blanks and heading lines. `page_starts[i]` is where page (or slide) i + 1 begins; it is empty
    for formats without pages. `markdown` says whether `text` is Markdown or plain text.
    """

    media_type: str
    title: str | None
    text: str
    sections: tuple[Section, ...]
    page_starts: tuple[int, ...]
    markdown: bool

    def page_of(self, offset: int) -> int | None:
        """The page, counted from 1, on which the character at `offset` stands."""
        return max(1, bisect_right(self.page_starts, offset)) if self.page_starts else None
