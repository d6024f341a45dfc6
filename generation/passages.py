"""What retrieval hands to generation: the passages that an answer may stand on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passage:
    """One chunk of a document, as found for a question.

    `score` is the fused score that passages are ranked by, `dense` the cosine similarity of the
    question and the passage (-1 to 1), which decides whether the passage is relevant at all.
    `page` counts from 1.
    """

    id: str
    document_id: str
    title: str
    heading: str | None
    page: int | None
    text: str
    score: float
    dense: float
