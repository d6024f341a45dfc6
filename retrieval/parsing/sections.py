"""Headings to sections, for Markdown and for any text whose headings are known."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from retrieval.parsing.records import Section
from retrieval.parsing.text import one_line

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_NOT_A_PARAGRAPH = re.compile(r"\s*(?:[-*+>|]|\d+[.)]\s)|\s{4}|\s*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s\"[^\"]*\")?\)")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of `level` 1 (outermost) or more; its line is `text[start:body]`."""

    level: int
    title: str
    start: int
    body: int


def sections_below(headings: Sequence[Heading], text: str) -> tuple[Section, ...]:
    """Cut `text` at its headings, given in order.

    A heading without a body is left to the paths of those below it; where nothing is below it,
    its own line becomes the body, together with others like it, so that no words are lost.
    """
    sections: list[Section] = []
    first = headings[0].start if headings else len(text)
    if text[:first].strip():
        sections.append(Section((), 0, first))
    path: list[Heading] = []
    bare = False
    for i, heading in enumerate(headings):
        following = headings[i + 1] if i + 1 < len(headings) else None
        end = following.start if following else len(text)
        path = [above for above in path if above.level < heading.level] + [heading]
        if text[heading.body : end].strip():
            titles = tuple(above.title for above in path if above.title)
            sections.append(Section(titles, heading.body, end))
        elif following is None or following.level <= heading.level:
            titles = tuple(above.title for above in path[:-1] if above.title)
            start = heading.start
            if bare and sections[-1].path == titles:
                start = sections.pop().start
            sections.append(Section(titles, start, end))
            bare = True
            continue
        bare = False
    return tuple(section for section in sections if text[section.start : section.end].strip())


def markdown_headings(text: str) -> tuple[Heading, ...]:
    """ATX and setext headings (CommonMark 4.2 and 4.3) outside code fences and front matter."""
    headings: list[Heading] = []
    fence = ""
    previous: tuple[int, str] | None = None  # a line that could be a setext heading
    after_blank = True
    front_matter = _front_matter_end(text)
    for start, line in _lines(text):
        if start < front_matter:
            continue
        body = start + len(line) + 1
        mark = _FENCE.match(line)
        if fence:
            closes = mark and mark[1].startswith(fence) and not line.strip(" \t" + fence[0])
            fence = "" if closes else fence
            previous = None
        elif mark:
            fence, previous = mark[1], None
        elif atx := _ATX.match(line):
            headings.append(Heading(len(atx[1]), _plain(atx[2] or ""), start, body))
            previous = None
        elif previous and (underline := _UNDERLINE.match(line)):
            level = 1 if underline[1][0] == "=" else 2
            headings.append(Heading(level, _plain(previous[1]), previous[0], body))
            previous = None
        else:
            opens = after_blank and not _NOT_A_PARAGRAPH.match(line)
            previous = (start, line) if opens else None
        after_blank = not line.strip()
    return tuple(headings)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.split("\n"):
        yield start, line
        start += len(line) + 1


def _front_matter_end(text: str) -> int:
    if not text.startswith("---\n"):
        return 0
    end = text.find("\n---\n", 3, 10_000)
    return end + 5 if end >= 0 else 0


def _plain(title: str) -> str:
    return one_line(_LINK.sub(r"\1", title).replace("**", "").replace("`", ""))
