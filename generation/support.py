"""Which passage a sentence stands on, by the words that they share."""

import re
from collections.abc import Sequence

# Share of a sentence's content words that its passage must hold.
SUPPORTED = 0.6

_LIST_ITEM = re.compile(r"^\s*(?:[-*•]|[0-9]+[.)])\s+")
_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    _WORD.findall(
        """a about above according after all also am an and answer any are as at be because been
    before being below between both but by can cannot could did do document documents does down
    during each few for from further had has have having he her here hers him his how i if in into
    is it its itself just may me might more most must my no nor not of off on once only or other
    our out over own passage question same she should so some stated states such than that the
    their them then there these they this those through to too under until up upon very was we
    were what when where which while who whom why will with would yes you your"""
    )
)


class Supporter:
    """Compares sentences with a fixed list of passages. Deterministic.

    It tells where a sentence may have come from, not that the sentence is true.
    """

    def __init__(self, passages: Sequence[str]) -> None:
        self._passages = [_content(passage) for passage in passages]

    def best(self, sentence: str) -> int | None:
        """Index of the passage that supports the sentence best, None if none does.

        Support is the share of the sentence's content words that the passage holds; it must reach
        SUPPORTED, and all numbers must be among them. A single shared word counts only where one
        passage alone has it. Equals go to the passage that comes first.
        """
        words = _content(_LIST_ITEM.sub("", sentence))
        numbers = {word for word in words if any(map(str.isdigit, word))}
        candidates = [
            (len(words & passage), -index)
            for index, passage in enumerate(self._passages)
            if words and numbers <= passage and len(words & passage) >= SUPPORTED * len(words)
        ]
        if not candidates:
            return None
        shared, index = max(candidates)
        if shared == 1 and len(candidates) > 1:
            return None
        return -index


def _content(text: str) -> frozenset[str]:
    words = (word.lower() for word in _WORD.findall(text))
    return frozenset(_stem(word) for word in words if word not in _STOP_WORDS)


def _stem(word: str) -> str:
    """Good enough to match renew with renewed and fee with fees; numbers stay whole."""
    if any(map(str.isdigit, word)):
        return word
    return (word[:-1] if len(word) > 3 and word.endswith("s") else word)[:6]
