"""Citation marks in a streamed answer: every `[n]` that leaves here stands for a passage."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from generation.engine import TextDelta
from generation.support import Supporter
from retrieval.search import Hit

# "[1]", "[1, 2]"; and what may still become one.
_NUMBERS = r"[0-9]{1,9}(?: ?[,;] ?[0-9]{1,9}){0,7}"
_MARK = re.compile(rf"\[ ?{_NUMBERS} ?\]")
_MARK_BEGUN = re.compile(rf"\[(?: ?{_NUMBERS}(?: ?[,;])?)? ?")
_MARK_OPEN = re.compile(r"\[[0-9,; ]*$")
_CLOSERS = "\"'”’»)]*_"
_TERMINATORS = ".!?。！？"
_ABBREVIATIONS = {"mr", "mrs", "ms", "dr", "prof", "st", "no", "fig"}


@dataclass(frozen=True, slots=True)
class Citation:
    """A mark `[number]` at `text[start_index:end_index]` and the passage it stands for."""

    start_index: int
    end_index: int
    number: int
    passage: Hit


class CitationWriter:
    """Rewrites a streamed reply so that its marks resolve; the same for any split into pieces.

    A mark whose number is no passage is dropped and several numbers in one mark become several
    marks. A sentence that ends without a mark gets the one of the passage that supports it best,
    if any does. At most one unfinished mark and the white space after a word are held back.
    """

    def __init__(self, passages: Sequence[Hit]) -> None:
        """Mark `[n]` stands for `passages[n - 1]`."""
        self._passages = tuple(passages)
        self._supporter = Supporter([passage.text for passage in passages])
        self._begun = ""
        self._space = ""
        self._sentence = ""
        self._marked = False
        self._length = 0
        self._tail = ""
        self._out: list[str] = []
        self._events: list[TextDelta | Citation] = []

    def feed(self, piece: str) -> list[TextDelta | Citation]:
        """The text that `piece` makes certain; each Citation follows the text of its mark."""
        for character in piece:
            self._read(character)
        return self._take()

    def finish(self, *, complete: bool) -> list[TextDelta | Citation]:
        """The rest. `complete` says that the reply ended by itself, and so did its sentence."""
        for character in self._begun:
            self._write(character)
        self._begun = ""
        if complete or self._ended():
            self._close_sentence()
        return self._take()

    def _read(self, character: str) -> None:
        """Tell marks from text."""
        candidate = self._begun + character
        if _MARK.fullmatch(candidate):
            self._begun = ""
            self._mark(candidate)
        elif _MARK_BEGUN.fullmatch(candidate):
            self._begun = candidate
        else:
            for held in self._begun:
                self._write(held)
            self._begun = "[" if character == "[" else ""
            if not self._begun:
                self._write(character)

    def _mark(self, mark: str) -> None:
        numbers = [int(number) for number in re.findall("[0-9]+", mark)]
        known = [number for number in numbers if 1 <= number <= len(self._passages)]
        if not known:
            # The space before a dropped mark goes with it.
            self._space = self._space.rstrip(" ")
            if _MARK_OPEN.search(self._tail + self._space):
                # Dropped from "[[9]1]", it would leave a mark behind.
                for character in f"({mark[1:-1]})":
                    self._write(character)
            return
        if "\n" in self._space:
            self._close_sentence()
        self._emit(self._space)
        self._space = ""
        for number in known:
            self._emit_mark(number)

    def _write(self, character: str) -> None:
        """Split text into sentences."""
        if character.isspace():
            # An answer does not begin with white space.
            self._space += character if self._length else ""
            return
        if self._space and self._ended() and not character.islower():
            self._close_sentence()
        self._emit(self._space)
        self._sentence += self._space + character
        self._space = ""
        self._emit(character)

    def _ended(self) -> bool:
        """Whether what has been read of the sentence can be all of it."""
        if "\n" in self._space:
            return True
        text = self._sentence.rstrip(_CLOSERS)
        if not text.endswith(tuple(_TERMINATORS)):
            return False
        words = text.rstrip(_TERMINATORS).split()
        last = words[-1].lower() if words else ""
        # "1." begins an item of a list, "J." and "Dr." a name.
        numbering = len(words) == 1 and last.isdigit()
        name = last in _ABBREVIATIONS or (len(last) == 1 and last.isalpha())
        return not (numbering or name)

    def _close_sentence(self) -> None:
        if not self._marked:
            index = self._supporter.best(self._sentence)
            if index is not None:
                self._emit(" ")
                self._emit_mark(index + 1)
        self._sentence = ""
        self._marked = False

    def _emit(self, text: str) -> None:
        self._out.append(text)
        self._tail = (self._tail + text)[-100:]
        self._length += len(text)

    def _emit_mark(self, number: int) -> None:
        start = self._length
        self._emit(f"[{number}]")
        self._flush()
        passage = self._passages[number - 1]
        self._events.append(Citation(start, self._length, number, passage))
        self._marked = True

    def _flush(self) -> None:
        text = "".join(self._out)
        self._out.clear()
        if text:
            self._events.append(TextDelta(text))

    def _take(self) -> list[TextDelta | Citation]:
        self._flush()
        events, self._events = self._events, []
        return events
