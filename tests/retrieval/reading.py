"""Reading of bytes as if they had been uploaded."""

import pytest

from retrieval.parsing import ParseError, ParseLimits
from tests.retrieval.documents import LIMITS


def refusal(read, data: bytes, name: str, limits: ParseLimits = LIMITS) -> ParseError:
    with pytest.raises(ParseError) as caught:
        read(data, name, limits)
    assert caught.value.message.endswith((".", ")."))
    return caught.value
