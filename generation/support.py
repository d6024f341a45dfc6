"""Which passage a sentence stands on, by the words that they share."""

import re
from collections.abc import Sequence

from retrieval.lexical import STOP_WORDS

# Share of a sentence's content words that its passage must hold.
SUPPORTED = 0.6

_LIST_ITEM = re.compile(r"^\s*(?:[-*•]|[0-9]+[.)])\s+")
_WORD = re.compile(r"\w+")
# Words that say nothing of what a sentence is about; more of them than a search leaves out.
_STOP_WORDS = STOP_WORDS | frozenset(
    "about above according after all also am answer any because before being below between both "
    "cannot document documents down during each few further having he her here hers him his itself "
    "just might more most must no nor not off once only other out over own passage question same "
    "she some stated states through too under until up upon very while yes".split()
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
