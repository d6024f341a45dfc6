"""How well an answer agrees with a reference: exact match and token F1 of SQuAD.

Rajpurkar et al., arXiv 1606.05250, section 6.1, with the normalisation of its evaluation script:
lower case, without ASCII punctuation and without the words "a", "an" and "the".
"""

from __future__ import annotations

import re
import string
from collections import Counter

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def exact_match(answer: str, reference: str) -> float:
    """1.0 if the two have the same words in the same order, else 0.0."""
    return float(_words(answer) == _words(reference))


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words, each counted as often as it stands.

    Where either has no word left it is 1.0 if neither has, else 0.0.
    """
    said, wanted = _words(answer), _words(reference)
    if not said or not wanted:
        return float(said == wanted)
    common = (Counter(said) & Counter(wanted)).total()
    # 2PR / (P + R), which has no case of its own for nothing in common.
    return 2 * common / (len(said) + len(wanted))


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()
