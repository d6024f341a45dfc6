"""Citation marks: [n] in an answer stands for the nth passage of the prompt that it answered."""

import re

_NUMBER = re.compile(r"\[(\d+)\]")
_MARK = re.compile(rf" ?{_NUMBER.pattern}")


def without_marks(answer: str) -> str:
    """An answer without its marks, which mean nothing beside another prompt."""
    return _MARK.sub("", answer)


def cited(answer: str) -> list[int]:
    """The numbers of its marks, in order."""
    return [int(number) for number in _NUMBER.findall(answer)]
