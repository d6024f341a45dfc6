"""Marks in a streamed answer, for known texts and for any split of any text."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation.citations import Citation, CitationWriter
from generation.engine import TextDelta
from tests.generation.passages import GARDEN, HOURS, LIBRARY, passage

PASSAGES = [passage(LIBRARY), passage(HOURS), passage(GARDEN)]


def rewrite(pieces: list[str], complete: bool = True) -> tuple[str, list[Citation]]:
    writer = CitationWriter(PASSAGES)
    events = [event for piece in pieces for event in writer.feed(piece)]
    events += writer.finish(complete=complete)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    return text, [event for event in events if isinstance(event, Citation)]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        # The model's own marks, in the shapes that models write.
        ("Cats purr [1]. Dogs bark [3].", "Cats purr [1]. Dogs bark [3]."),
        ("Cats purr. [2] Dogs bark.[1]", "Cats purr. [2] Dogs bark.[1]"),
        ("Cats purr [1, 3] and [ 2 ].", "Cats purr [1][3] and [2]."),
        # Marks of no passage go, with the space before them.
        ("Cats purr [4]. Dogs bark [0] [12].", "Cats purr. Dogs bark."),
        ("Cats purr [2, 9].", "Cats purr [2]."),
        # What only looks like a mark stays.
        ("See [a], [1a], [] and x[", "See [a], [1a], [] and x["),
        ("See [1", "See [1"),
        ("Take [[2]] now", "Take [[2]] now"),
        ("Take [[9]2] now", "Take [(9)2] now"),
        # Sentences without a mark get that of their passage, or none.
        ("A card costs 5 euros.", "A card costs 5 euros. [1]"),
        ("It is closed on Sundays. I hope so!", "It is closed on Sundays. [2] I hope so!"),
        ("Bonfires are forbidden", "Bonfires are forbidden [3]"),
        ("- closed Sundays\n- bonfires\n", "- closed Sundays [2]\n- bonfires [3]"),
        ("Fees:\n[1] Cards cost.", "Fees:\n[1] Cards cost."),
        ('"It closes in August." Yes.', '"It closes in August." [2] Yes.'),
        ("Bonfires [1]. Bonfires.", "Bonfires [1]. Bonfires. [3]"),
        # Neither a number of a list, nor an abbreviation, nor a decimal ends a sentence.
        ("1. Books may be renewed twice.", "1. Books may be renewed twice. [1]"),
        ("Dr. No: bonfires are forbidden.", "Dr. No: bonfires are forbidden. [3]"),
        ("Closed on Sundays, e.g. in August.", "Closed on Sundays, e.g. in August. [2]"),
        ("  \n Bonfires?  ", "Bonfires? [3]"),
    ],
)  # fmt: skip
def test_known_replies(reply: str, expected: str) -> None:
    assert rewrite([reply])[0] == expected


def test_a_reply_cut_off_gets_no_mark_for_its_last_words() -> None:
    reply = "A card costs 5 euros. Bonfires are forbidden"
    assert rewrite([reply], complete=False)[0] == "A card costs 5 euros. [1] Bonfires are forbidden"
    assert rewrite(["Bonfires are forbidden."], complete=False)[0] == "Bonfires are forbidden. [3]"


FRAGMENTS = st.sampled_from(
    ["[1]", "[2", ", 3]", "[", "]", "[9]", "1", ". ", ".\n", "! ", " ", "\n", "[1][2]", "Dr", "é",
     "A card costs 5 euros", "bonfires are forbidden", "Closed on Sundays"]
) | st.text(max_size=4)  # fmt: skip


@given(
    fragments=st.lists(FRAGMENTS, max_size=15),
    cuts=st.lists(st.integers(0, 200)),
    complete=st.booleans(),
)
def test_any_split_gives_the_same_text_and_marks_that_resolve(
    fragments: list[str], cuts: list[int], complete: bool
) -> None:
    reply = "".join(fragments)
    edges = [0, *sorted(min(cut, len(reply)) for cut in cuts), len(reply)]
    pieces = [reply[start:end] for start, end in pairwise(edges)]
    text, citations = rewrite(pieces, complete)
    assert (text, citations) == rewrite([reply], complete)
    for citation in citations:
        assert text[citation.start_index : citation.end_index] == f"[{citation.number}]"
        assert citation.passage == PASSAGES[citation.number - 1]
    spans = [(citation.start_index, citation.end_index) for citation in citations]
    assert spans == [match.span() for match in re.finditer(r"\[ ?[0-9][0-9 ,;]*\]", text)]
    # Nothing but marks and white space is added or lost.
    assert _letters(text) == _letters(reply)


def _letters(text: str) -> str:
    return re.sub(r"[\s\[\]()0-9,;]", "", text)


@given(reply=st.text(alphabet="ab1 ,.[]", max_size=60))
def test_little_is_held_back(reply: str) -> None:
    writer = CitationWriter(PASSAGES)
    sent = 0
    for count, character in enumerate(reply, start=1):
        sent += sum(len(e.text) for e in writer.feed(character) if isinstance(e, TextDelta))
        held = reply[:count].rstrip()
        # An unfinished mark of at most eight numbers, and what dropped marks take with them.
        lost = sum(len(match) + 1 for match in re.findall(r" *\[[\d ,]*\]", held))
        assert len(" ".join(held.split())) - sent <= 100 + lost
