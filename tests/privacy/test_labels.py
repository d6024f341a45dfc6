"""No two uses of a key or a hash share a label, over all parts that have labels."""

from federation.secagg.primitives import Label
from privacy import encoding
from privacy.signing import Domain


def test_no_label_is_another_or_begins_another() -> None:
    """Labels stand in front of messages: one that begins another would let them be confused."""
    labels = [label.value for label in Label] + [domain.label(b"") for domain in Domain]
    labels.append(encoding._LABEL)
    clashes = [
        (one, other)
        for place, one in enumerate(labels)
        for further, other in enumerate(labels)
        if place != further and other.startswith(one)
    ]
    assert clashes == []
