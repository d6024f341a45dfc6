"""Exact match and token F1, against values worked out from SQuAD's definitions by hand."""

from __future__ import annotations

import pytest

from generation.answer_scores import exact_match, token_f1


@pytest.mark.parametrize(
    ("answer", "reference", "match", "f1"),
    [
        ("The old king.", "an old  King", 1.0, 1.0),
        # P = 2/3, R = 2/2.
        ("delightfully cold outside", "delightfully cold", 0.0, 0.8),
        # Common: "one" twice; P = 2/3, R = 2/4.
        ("one one one", "one two one three", 0.0, 4 / 7),
        # The same words in another order are no exact match.
        ("king old", "old king", 0.0, 1.0),
        ("snow", "sun", 0.0, 0.0),
        # Punctuation goes without leaving a space behind: "dont", "snowman".
        ("Don't!", "dont", 1.0, 1.0),
        ("snow-man", "snow man", 0.0, 0.0),
        # "theatre" and "Anna" merely begin like articles.
        ("theatre Anna", "atre na", 0.0, 0.0),
        ("", "king", 0.0, 0.0),
        ("the", "", 1.0, 1.0),
    ],
)
def test_scores(answer: str, reference: str, match: float, f1: float) -> None:
    assert exact_match(answer, reference) == match
    assert token_f1(answer, reference) == pytest.approx(f1)
    assert token_f1(reference, answer) == pytest.approx(f1)
