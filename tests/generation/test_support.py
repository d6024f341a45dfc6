"""Attribution of sentences to the passages of a small town, judged by hand."""

import pytest

from generation.support import Supporter
from tests.generation.passages import CLINIC, GARDEN, HOURS, LIBRARY, PUMP

PASSAGES = [LIBRARY, HOURS, GARDEN, CLINIC, PUMP]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The card is 5 euros per year.", LIBRARY),
        ("Children pay nothing for the card.", LIBRARY),
        ("You may keep a book for three weeks.", LIBRARY),
        ("Three weeks.", LIBRARY),
        ("The library opens at 10:00 and closes at 18:00 from Tuesday to Saturday.", HOURS),
        ("In August the library closes earlier, at 14:00.", HOURS),
        ("Bonfires are not allowed from April to September.", GARDEN),
        ("Each member has to give six hours of work.", GARDEN),
        ("You should not eat for eight hours before your blood test.", CLINIC),
        ("The results are sent by post after two working days.", CLINIC),
        ("According to the documents, the oil tank has a capacity of 40 litres.", PUMP),
        ("Switch the machine off before cleaning it.", PUMP),
    ],
)
def test_a_paraphrase_is_attributed_to_its_passage(sentence: str, expected: str) -> None:
    index = Supporter(PASSAGES).best(sentence)
    assert index is not None
    assert PASSAGES[index] == expected


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "It is.",
        "I hope this helps!",
        "The library was founded in 1904 by a group of teachers.",
        "The machine is made in Germany by a small company.",
        "Children under eighteen need a signed form from a parent.",
        "Plot prices vary from year to year depending on the council.",
        "The tank holds 60 litres of oil.",
        "A reading card costs 7 euros a year.",
    ],
)
def test_what_no_passage_supports_is_attributed_to_none(sentence: str) -> None:
    assert Supporter(PASSAGES).best(sentence) is None


def test_one_shared_word_counts_only_where_one_passage_has_it() -> None:
    assert Supporter(["Felix slept.", "The fox ran."]).best("Felix.") == 0
    assert Supporter(["Felix slept.", "Felix ran."]).best("Felix.") is None
