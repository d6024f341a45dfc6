"""What parsing takes and gives: limits, a parsed document, and the reasons a file is refused."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

MEBIBYTE = 1 << 20

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

    file_bytes: int = 64 * MEBIBYTE
    expanded_bytes: int = 128 * MEBIBYTE
    pages: int = 5_000
    text_characters: int = 20_000_000
    memory_bytes: int = 1_536 * MEBIBYTE
    seconds: int = 180

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


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
