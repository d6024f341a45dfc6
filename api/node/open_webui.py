"""The record that Open WebUI exports of a rating (its `FeedbackForm`), read as feedback.

`snapshot.chat.chat.history.messages` holds the messages by id; the rated one is named by
`meta.message_id`, and its `parentId` is the question. The `sources` of the rated one are the source
events that `api.node.chat` sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from retrieval.feedback import NewFeedback
from retrieval.questions import LONGEST_TEXT, MOST_RELEVANT

PASSAGE = re.compile(r"/v1/passages/([A-Za-z0-9_.-]{1,100})")
SHORT = 300
LONGEST_REASON = 2_000


class UnusableRecordError(ValueError):
    """The record is no feedback to an answer of this node; the message says why."""


class RatingData(BaseModel):
    model_id: str = Field(min_length=1, max_length=SHORT)
    rating: int | str
    reason: str | None = Field(default=None, max_length=LONGEST_REASON)
    comment: str | None = Field(default=None, max_length=LONGEST_REASON)


class RatingMeta(BaseModel):
    chat_id: str | None = Field(default=None, max_length=SHORT)
    message_id: str = Field(min_length=1, max_length=SHORT)


class OpenWebUiRating(BaseModel):
    """A rating as Open WebUI exports it; of the chat only the rated answer and its question are
    kept."""

    type: Literal["rating"]
    data: RatingData
    meta: RatingMeta
    snapshot: dict[str, Any] | None = None


def read(record: OpenWebUiRating) -> NewFeedback:
    """The feedback of a record, to the assistant `record.data.model_id`.

    Raises:
        UnusableRecordError: its rating is none, or its snapshot lacks the question.
    """
    rating = {"1": 1, "-1": -1}.get(str(record.data.rating))
    if rating is None:
        raise UnusableRecordError(f"data.rating is 1 or -1, not {str(record.data.rating)[:20]!r}")
    messages = _object(_path(record.snapshot, "chat", "chat", "history", "messages"))
    answer = _object(messages.get(record.meta.message_id))
    question = _object(messages.get(str(answer.get("parentId"))))
    if question.get("role") != "user":
        raise UnusableRecordError(
            "snapshot.chat.chat.history.messages holds no message meta.message_id whose parentId "
            "is a question"
        )
    said = [record.data.reason, record.data.comment]
    return NewFeedback(
        rating=rating,
        completion_id=record.meta.message_id,
        chat_id=record.meta.chat_id,
        question=_text(question, "question"),
        answer=_text(answer, "answer"),
        reason=": ".join(text for text in said if text) or None,
        sources=_sources(answer.get("sources")),
        is_first="parentId" in question and question["parentId"] is None,
    )


def _sources(events: Any) -> tuple[str, ...]:
    """The passages in the order in which Open WebUI numbers them."""
    found = []
    for event in events if isinstance(events, list) else []:
        metadata = _object(event).get("metadata")
        for one in metadata if isinstance(metadata, list) else []:
            match = PASSAGE.fullmatch(str(_object(one).get("source")))
            if match is not None:
                found.append(match[1])
    if len(found) > MOST_RELEVANT:
        raise UnusableRecordError(f"the answer has more than {MOST_RELEVANT} sources")
    return tuple(dict.fromkeys(found))


def _text(message: Mapping[str, Any], what: str) -> str:
    content = message.get("content")
    if not isinstance(content, str) or not content.strip() or len(content) > LONGEST_TEXT:
        raise UnusableRecordError(f"the {what} is no text of 1 to {LONGEST_TEXT:,} characters")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise UnusableRecordError(f"the {what} has half a surrogate pair") from error
    return content


def _path(value: Any, *names: str) -> Any:
    for name in names:
        value = _object(value).get(name)
    return value


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
