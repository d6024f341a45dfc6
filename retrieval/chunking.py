"""Documents to chunks that fit the embedder, so that it cuts nothing off in silence."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Tokenizer

from retrieval.parsing.records import ParsedDocument, Section

_FEWEST_TOKENS = 32
_CHARACTERS_PER_TOKEN = 16  # four times the usual; a long run without blanks is one unknown token
_TABLE_LINE = re.compile(r"^ {0,3}\|.*$", re.MULTILINE)
_BARS = re.compile(r"\\?\||(?<=\|)[ \t]*:?-+:?[ \t]*(?=\|)")
_WINDOW = 32_000  # characters
_LONGEST_WORD = 100
_WORD_PARTS = re.compile(
    "[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]|\\w{1,50}|\\S"
)  # CJK has no blanks
_DELIMITER_ROW = re.compile(r" {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document.

    `position` counts from 0 within the document. `heading` is the title and the headings above
    the passage ("Fees > Dental"), shortened where they are long, or "". `page` counts from 1.
    `start` and `end` are offsets into the document's text; `text` is what stands there, below the
    table's header where a table had to be cut. `tokens` counts `embedded_text` with the
    embedder's special tokens.
    """

    position: int
    text: str
    heading: str
    page: int | None
    start: int
    end: int
    tokens: int

    @property
    def embedded_text(self) -> str:
        return embedded_text(self.heading, self.text)


def embedded_text(heading: str, text: str) -> str:
    """What is embedded and indexed: a passage below its headings, tables as bare words.

    Bars and delimiter rows draw vectors of tables together, away from what they say.
    """
    return _without_bars(_below(heading, text))


class Chunker:
    """Cuts documents by the tokens of one embedder.

    `tokenizer_file` is a Hugging Face `tokenizer.json`; `max_tokens` is the embedder's limit,
    special tokens included. The same document always gives the same chunks.
    """

    def __init__(self, tokenizer_file: Path, max_tokens: int) -> None:
        if max_tokens < _FEWEST_TOKENS:
            raise ValueError(f"max_tokens must be at least {_FEWEST_TOKENS}, not {max_tokens}")
        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        # The file of a sentence embedder may cut and pad; both would make every count wrong.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._max_tokens = max_tokens
        # A passage is counted where it is fitted and again where it becomes a chunk.
        self._count = lru_cache(maxsize=8)(self._tokens_in)
        self._word_tokens = lru_cache(maxsize=100_000)(self._tokens_in_word)
        self._splitter = lru_cache(maxsize=256)(self._make_splitter)

    def chunk(self, document: ParsedDocument) -> tuple[Chunk, ...]:
        """All the text of `document`, in order, in chunks of at most `max_tokens` tokens each."""
        chunks: list[Chunk] = []
        for section in document.sections:
            heading = self._heading(document.title, section.path)
            for start, end, header in self._spans(document, section, heading):
                text = _below(header, document.text[start:end])
                tokens = self._count(_below(heading, text))
                page = document.page_of(start)
                chunks.append(Chunk(len(chunks), text, heading, page, start, end, tokens))
        self._word_tokens.cache_clear()  # nothing of this document stays behind
        self._count.cache_clear()
        return tuple(chunks)

    def _heading(self, title: str | None, path: tuple[str, ...]) -> str:
        """Title and headings, outermost first, within a quarter of the limit."""
        parts = [title, *path] if title and title not in path else list(path)
        most = self._max_tokens // 4
        while len(parts) > 1 and not self._fits(" > ".join(parts), most):
            del parts[0]
        heading = " > ".join(parts)
        if self._fits(heading, most):
            return heading
        start, end = next(self._pieces(heading, "", most, markdown=False))
        return heading[start:end]

    def _spans(
        self, document: ParsedDocument, section: Section, heading: str
    ) -> Iterator[tuple[int, int, str]]:
        """(start, end, header to repeat or "") of each chunk of a section."""
        start, end = _trimmed(document.text, section.start, section.end)
        if self._fits(_below(heading, document.text[start:end]), self._max_tokens):
            yield start, end, ""
            return
        for block in _blocks(document.text, start, end) if document.markdown else [(start, end, 0)]:
            yield from self._block_spans(document, heading, *block)

    def _block_spans(
        self, document: ParsedDocument, heading: str, start: int, end: int, rows: int
    ) -> Iterator[tuple[int, int, str]]:
        text = document.text
        header = text[start:rows].rstrip() if rows else ""
        if (
            re.search(r"\w", header)
            and self._fits(header, self._max_tokens // 2)
            and text[rows:end].strip()
        ):
            pieces = self._pieces(
                text[rows:end], _below(heading, header), self._max_tokens, markdown=False
            )
            for i, (piece_start, piece_end) in enumerate(pieces):
                if i == 0:
                    yield start, rows + piece_end, ""
                else:
                    yield rows + piece_start, rows + piece_end, header
            return
        markdown = document.markdown and not rows
        for piece in self._pieces(text[start:end], heading, self._max_tokens, markdown=markdown):
            yield start + piece[0], start + piece[1], ""

    def _pieces(
        self, text: str, prefix: str, most: int, *, markdown: bool
    ) -> Iterator[tuple[int, int]]:
        """Spans of `text` that fit into `most` tokens together with `prefix`."""
        splitter = self._splitter(max(1, most - self._count(prefix)), markdown)
        start = 0
        while start < len(text):
            end = _window_end(text, start)
            pieces = splitter.chunk_indices(text[start:end])
            if end < len(text) and len(pieces) > 1:
                end = start + pieces.pop()[0]  # it ends with the window: cut it anew with the next
            for offset, piece in pieces:
                for piece_start, piece_end in self._halved(piece, prefix, most):
                    yield start + offset + piece_start, start + offset + piece_end
            start = end

    def _halved(self, text: str, prefix: str, most: int) -> Iterator[tuple[int, int]]:
        """The whole, or where counts do not add up or blanks are missing, halves that fit."""
        if self._fits(_below(prefix, text), most) or len(text) == 1:
            yield 0, len(text)
            return
        middle = text.rfind(" ", len(text) // 4, len(text) // 2) + 1 or len(text) // 2
        for offset, half in ((0, text[:middle]), (middle, text[middle:])):
            for start, end in self._halved(half, prefix, most):
                start, end = _trimmed(half, start, end)  # noqa: PLW2901
                if start < end:
                    yield offset + start, offset + end

    def _fits(self, text: str, most: int) -> bool:
        return len(text) <= _CHARACTERS_PER_TOKEN * most and self._count(text) <= most

    def _tokens_in(self, text: str) -> int:
        return len(self._tokenizer.encode(_without_bars(text)).ids)

    def _tokens_in_word(self, word: str) -> int:
        if len(word) > _LONGEST_WORD:
            return sum(map(self._word_tokens, _WORD_PARTS.findall(word)))
        return len(self._tokenizer.encode(word, add_special_tokens=False).ids)

    def _estimate(self, text: str) -> int:
        """Tokens word by word: exact for WordPiece, close for others, and 20 times faster."""
        return sum(map(self._word_tokens, text.split()))

    def _make_splitter(self, room: int, markdown: bool) -> MarkdownSplitter | TextSplitter:
        kind = MarkdownSplitter if markdown else TextSplitter
        return kind.from_callback(self._estimate, room)


def _below(above: str, text: str) -> str:
    return f"{above}\n{text}" if above else text


def _without_bars(text: str) -> str:
    return _TABLE_LINE.sub(lambda line: " ".join(_BARS.sub(" ", line[0]).split()), text)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    body = text[start:end]
    return start + len(body) - len(body.lstrip()), end - len(body) + len(body.rstrip())


def _window_end(text: str, start: int) -> int:
    """How far to look ahead, since splitters take quadratic time; not into a word if possible."""
    if len(text) - start <= _WINDOW:
        return len(text)
    least, most = start + _WINDOW // 2, start + _WINDOW
    ends = (text.rfind(mark, least, most) + len(mark) for mark in ("\n\n", "\n", ". ", " "))
    return next((end for end in ends if end > least), most)


def _blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Tables and what is between them: (start, end, where a table's rows begin or 0)."""
    lines: list[tuple[int, str]] = []
    at = start
    for line in text[start:end].split("\n"):
        lines.append((at, line))
        at += len(line) + 1
    block = start
    i = 0
    while i + 1 < len(lines):
        if (
            "|" in lines[i][1]
            and "|" in lines[i + 1][1]
            and _DELIMITER_ROW.fullmatch(lines[i + 1][1])
        ):
            table = lines[i][0]
            if text[block:table].strip():
                yield *_trimmed(text, block, table), 0
            i += 2
            rows = lines[i][0] if i < len(lines) else end
            while i < len(lines) and lines[i][1].strip():
                i += 1
            block = lines[i][0] if i < len(lines) else end
            yield *_trimmed(text, table, block), rows
        else:
            i += 1
    if text[block:end].strip():
        yield *_trimmed(text, block, end), 0
