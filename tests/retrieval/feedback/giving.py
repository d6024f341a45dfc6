"""Feedback that is given and approved, and what came of it."""

from __future__ import annotations

from dataclasses import replace

from retrieval import feedback, personal_examples, questions
from retrieval.feedback import NewFeedback
from retrieval.personal_examples import PersonalMaterial
from storage import keys
from storage.example_tables import (
    Feedback,
    PersonalKind,
    QuestionOrigin,
)
from storage.node_tables import Key, Scope
from tests.nodes import Node

SECRET = b"s" * 32
ERASE_SECONDS = 60
FROM_FEEDBACK = (QuestionOrigin.FEEDBACK, QuestionOrigin.CORRECTION)


def text(topic: str) -> bytes:
    parts = "".join(
        f"## {part} of {topic}\n\nWhat there is to say about the {part} of {topic}.\n\n"
        for part in ("history", "practice")
    )
    return f"# All about {topic}\n\n{parts}".encode()


def make_key(node: Node, *, trusted: bool = False) -> Key:
    with node.database.write() as session:
        made = keys.create(session, "somebody", Scope.USER, None).key
        made.feedback_is_approved = trusted
    return made


def give(node: Node, assistant: int, key: Key | None, **given: object) -> Feedback:
    new = replace(NewFeedback(1, question="How old do they get?"), **given)
    with node.database.write() as session:
        return feedback.give(session, assistant, key, new)[0]


def approve(node: Node, assistant: int, number: int) -> int:
    with node.database.write() as session:
        found = feedback.get(session, assistant, number)
        assert found is not None
        return feedback.approve(session, found).id


def marks(node: Node, assistant: int) -> list[tuple[str, str | None, dict[str | None, bool]]]:
    """Text, answer and marks of the examples that were made of feedback."""
    with node.database.read() as session:
        return [
            (one.text, one.answer, {item.passage: item.is_relevant for item in one.relevant})
            for one in questions.list_page(session, assistant, origins=FROM_FEEDBACK)
        ]


def learned(
    node: Node, assistant: int, kind: PersonalKind = PersonalKind.RETRIEVER
) -> PersonalMaterial:
    """What a personal adapter would learn from."""
    with node.database.read() as session:
        return personal_examples.read(session, assistant, kind, SECRET)
