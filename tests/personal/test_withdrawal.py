"""What is erased, edited or hidden takes the adapters that learned from it out of service at once.

The adapters are drawn instead of trained, and nothing is trained: what is found without one is what
is found when the erasure has returned, and not what the next one finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session

from retrieval import feedback, headings, jobs, questions
from retrieval.embedding import Embedder
from retrieval.feedback import NewFeedback
from retrieval.forget import Forgotten
from retrieval.questions import NewQuestion
from storage.declarative import now
from storage.example_tables import HiddenHeading
from storage.node_tables import Assistant
from tests.nodes import until
from tests.personal.towns import PLACES, Town, open_town, question

FEW = PLACES[:6]
HEADED = b"# The abbey\n\n## The rules of the abbey\n\nWhoever enters keeps silent.\n"


@pytest.fixture(scope="module")
def town(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Its assistant has documents, one with a heading; its trainings never begin."""
    with open_town(tmp_path_factory.mktemp("town") / "home", embedder) as opened:
        assert opened.personal._trainings is not None
        opened.personal._trainings.close()
        assistant = opened.node.assistant()
        opened.settle(assistant, FEW)
        opened.node.ingest(assistant, {"abbey.md": HEADED}, external_ids=["abbey.md"])
        yield opened


@pytest.fixture
def assistant(town: Town) -> int:
    """With labelled questions, approved feedback and a question of a heading, and no adapter."""
    found = town.node.assistant()
    town.personal.reset(found)
    with town.node.database.write() as session:
        questions.remove_all(session, found, None)
        feedback.remove_all(session, found)
        session.execute(delete(HiddenHeading))
    town.teach(found, FEW)
    passage = f"{town.document(found, 'quarry-b.txt')}.1.0"
    with town.node.database.write() as session:
        given, _ = feedback.give(session, found, None, rated(passage, 1))
        feedback.approve(session, given)
    return found


def rated(passage: str, rating: int) -> NewFeedback:
    return NewFeedback(
        rating, completion_id="c-1", question="Who may enter?", ratings={passage: rating}
    )


Erasure = Callable[[Session, Town, int], Forgotten]


def _labelled(session: Session, assistant: int) -> int:
    return questions.list_page(session, assistant, limit=1)[0].id


def _given(session: Session, assistant: int) -> int:
    return feedback.list_page(session, [assistant], limit=1)[0].id


def delete_question(session: Session, town: Town, assistant: int) -> Forgotten:
    return questions.remove(session, assistant, _labelled(session, assistant)).personal


def delete_all(session: Session, town: Town, assistant: int) -> Forgotten:
    return questions.remove_all(session, assistant, None).personal


def edit_question(session: Session, town: Town, assistant: int) -> Forgotten:
    new = NewQuestion("Who wears a helmet?", (f"{FEW[0]}-b.txt",), None, None)
    made = questions.edit(session, assistant, _labelled(session, assistant), new)
    assert made is not None
    return made[1]


def upload_another(session: Session, town: Town, assistant: int) -> Forgotten:
    new = NewQuestion(question(FEW[0]), (f"{FEW[0]}-b.txt",), "With a helmet.", None)
    return questions.add(session, assistant, [new])


def hide_heading(session: Session, town: Town, assistant: int) -> Forgotten:
    (made,) = headings.list_page(session, assistant, limit=9)
    return headings.hide(session, assistant, made.id).personal


def erase_feedback(session: Session, town: Town, assistant: int) -> Forgotten:
    return feedback.remove(session, assistant, _given(session, assistant)).personal


def erase_all_feedback(session: Session, town: Town, assistant: int) -> Forgotten:
    return feedback.remove_all(session, assistant).personal


def reject_feedback(session: Session, town: Town, assistant: int) -> Forgotten:
    given = feedback.get(session, assistant, _given(session, assistant))
    assert given is not None
    return feedback.reject(session, given)


def rate_again(session: Session, town: Town, assistant: int) -> Forgotten:
    passage = f"{town.document(assistant, 'quarry-b.txt')}.1.0"
    return feedback.give(session, assistant, None, rated(passage, -1))[1]


@pytest.mark.parametrize(
    "erase",
    [
        delete_question, delete_all, edit_question, upload_another, hide_heading, erase_feedback,
        erase_all_feedback, reject_feedback, rate_again,
    ],
)  # fmt: skip
def test_an_erasure_says_what_is_off_and_it_is_off_when_it_returns(
    town: Town, assistant: int, erase: Erasure
) -> None:
    plain = town.found(assistant, FEW[0])
    version = town.plant(assistant)
    assert town.found(assistant, FEW[0]) != plain
    before = now()
    with town.node.database.write() as session:
        told = erase(session, town, assistant)
    assert town.found(assistant, FEW[0]) == plain
    with town.node.database.read() as session:
        (waiting,) = jobs.open_personal(session, assistant)
    (entry,) = told
    assert before <= entry.pop("off_at") <= now()
    assert entry == {"kind": "retriever", "version": version.id, "job": waiting.id}
    assert town.versions(assistant) == []


def test_the_same_upload_again_leaves_the_adapter_alone(town: Town, assistant: int) -> None:
    version = town.plant(assistant)
    mapped = town.found(assistant, FEW[0])
    with town.node.database.read() as session:
        before = [row.id for row in questions.list_page(session, assistant)]
    new = [NewQuestion(question(place), (f"{place}-b.txt",), None, None) for place in FEW]
    with town.node.database.write() as session:
        assert questions.add(session, assistant, [*new, *new]) == []
    with town.node.database.read() as session:
        assert [row.id for row in questions.list_page(session, assistant)] == before
    assert town.found(assistant, FEW[0]) == mapped
    assert [one.id for one in town.versions(assistant)] == [version.id]
    assert not town.is_training(assistant)


def test_the_weight_of_words_is_fitted_anew_after_an_erasure(town: Town) -> None:
    other = town.node.assistant("other")

    def weight() -> float | None:
        with town.node.database.read() as session:
            return session.get_one(Assistant, other).lexical_weight

    town.settle(other, FEW[:1])
    until(lambda: weight() is not None)
    ids = [town.document(other, f"{FEW[0]}-{letter}.txt") for letter in "ab"]
    job = town.node.library.erase(other, ids, seconds=120)
    assert job.finished_at is not None
    until(lambda: weight() is None)
