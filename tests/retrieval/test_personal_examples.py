"""What a personal adapter learns from: all that the owner said, and nothing that is gone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from retrieval import headings, personal_examples, questions
from retrieval.personal_examples import PersonalMaterial
from retrieval.questions import NewQuestion
from retrieval.store import AssistantStore
from storage.database import Database
from storage.example_tables import PersonalKind
from tests.nodes import add_assistant, new_document, open_database, open_store
from tests.retrieval.stores import put

SECRET = b"s" * 32
DOCUMENTS = {
    "fees": ["A berth costs 42 crowns.", "Fees are paid before noon."],
    "fire": ["Ring the bronze bell.", "Walk to the pier."],
    "keys": ["The keeper has the key."],
}
LABELS = [
    NewQuestion("What does a berth cost?", ("fees",), "42 crowns", None, ("fire",)),
    NewQuestion("Who has the key?", ("keys",), None, None),
    NewQuestion("What if it burns?", ("fire",), "Ring the bell.", None),
]


def read(
    database: Database, kind: PersonalKind = PersonalKind.RETRIEVER, assistant_id: int = 1
) -> PersonalMaterial:
    with database.read() as session:
        return personal_examples.read(session, assistant_id, kind, SECRET)


def fill(database: Database, store: AssistantStore, seed: int) -> None:
    """Documents and labels in an order of chance."""
    drawn = random.Random(seed)
    for name in drawn.sample(sorted(DOCUMENTS), len(DOCUMENTS)):
        put(store, new_document(DOCUMENTS[name], name, heading=f"All about the {name}"))
    for label in drawn.sample(LABELS, len(LABELS)):
        with database.write() as session:
            questions.add(session, 1, [label])


@pytest.fixture
def filled(database: Database, store: AssistantStore) -> Database:
    fill(database, store, seed=1)
    return database


def texts(material: PersonalMaterial) -> dict[str, tuple[set[str], set[str]]]:
    """Positives and negatives of each question."""
    return {
        example.question: (
            {material.passages[row] for row in example.positives},
            {material.passages[row] for row in example.negatives},
        )
        for example in material.examples
    }


def test_labels_and_headings_of_one_assistant(filled: Database, tmp_path: Path) -> None:
    other = open_store(filled, add_assistant(filled, "b"), tmp_path / "b")
    put(other, new_document(["Another assistant's."], heading="Not for the first one"))
    material = read(filled)
    passages = {
        name: {f"All about the {name}\n{text}" for text in own} for name, own in DOCUMENTS.items()
    }
    assert set(material.passages) == set().union(*passages.values())
    assert texts(material) == {
        "What does a berth cost?": (passages["fees"], passages["fire"]),
        "Who has the key?": (passages["keys"], set()),
        "What if it burns?": (passages["fire"], set()),
        **{f"All about the {name}": (own, set()) for name, own in passages.items()},
    }
    assert len(material.documents) == 3 and len(material.questions) == 3
    answered = read(filled, PersonalKind.GENERATOR)
    assert {example.answer for example in answered.examples} == {"42 crowns", "Ring the bell."}
    assert set(answered.passages) == passages["fees"] | passages["fire"]


def test_questions_of_one_document_are_held_back_together(
    database: Database, store: AssistantStore
) -> None:
    """What is learnt of a document must not be judged on the same document."""
    for number in range(12):
        put(
            store, new_document(["Some text.", f"Of {number}."], str(number), heading=f"n {number}")
        )
        asked = [NewQuestion(f"{i}: {number}?", (str(number),), None, None) for i in range(4)]
        with database.write() as session:
            questions.add(session, 1, asked)
        folds: dict[str, set[int]] = {}
        for example in read(database).examples:
            folds.setdefault(example.question.partition(": ")[2], set()).add(example.fold)
        # Few documents would leave folds empty: there each question goes by itself.
        together = number + 1 >= personal_examples.FEWEST_DOCUMENTS
        assert all(len(own) == 1 for own in folds.values()) is together
    assert len(set().union(*folds.values())) > 1


def test_when_it_came_makes_no_difference(filled: Database, tmp_path: Path) -> None:
    """Another database has other ids of documents, passages and questions."""
    with open_database(tmp_path / "again.db") as database:
        store = open_store(database, add_assistant(database, "a"), tmp_path / "again")
        gone = put(store, new_document(["Gone."], "gone", heading="Of what is gone"))
        fill(database, store, seed=2)
        with store.changing() as change:
            change.remove(gone)
        one, two = read(filled), read(database)
    assert (one.passages, one.examples, one.digest) == (two.passages, two.examples, two.digest)
    assert one.documents != two.documents


def test_what_the_limits_cut_off_has_no_influence(
    filled: Database, store: AssistantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for the labelled ones alone, another heading and its passages change nothing."""
    monkeypatch.setattr(personal_examples, "MOST_EXAMPLES", 3)
    monkeypatch.setattr(personal_examples, "MOST_PASSAGES", 5)
    before = read(filled)
    assert {example.question for example in before.examples} == {one.question for one in LABELS}
    put(store, new_document(["It is late."], "late", heading="About being too late"))
    after = read(filled)
    assert (before.passages, before.examples) == (after.passages, after.examples)
    assert before.documents == after.documents and before.digest == after.digest


def test_it_is_there_until_something_of_it_is_gone(filled: Database, store: AssistantStore) -> None:
    def is_there(material: PersonalMaterial) -> bool:
        with filled.read() as session:
            return personal_examples.is_there(session, 1, material)

    with filled.read() as session:
        listed = questions.list_page(session, 1, limit=9)
        made = headings.list_page(session, 1, limit=9)
    first, second = listed[0], listed[1]
    material = read(filled)
    put(store, new_document(["It is late."], "late", heading="About being too late"))
    assert is_there(material)
    with filled.write() as session:
        changed = NewQuestion(first.text, ("keys",), first.answer, None)
        assert questions.edit(session, 1, first.id, changed)
    assert not is_there(material)
    material = read(filled)
    with filled.write() as session:
        assert questions.remove(session, 1, second.id).removed
    assert not is_there(material)
    material = read(filled)
    with filled.write() as session:
        assert headings.hide(session, 1, made[0].id).removed
    assert not is_there(material)
    material = read(filled)
    assert made[0].text not in texts(material)
    with store.changing() as change:
        change.remove(sorted(material.documents)[0])
    assert not is_there(material)


def test_a_question_in_whose_favour_a_heading_is_not_asked_counts_without_passages(
    filled: Database, store: AssistantStore
) -> None:
    """Without it there would be another example, so what it did is forgotten with it."""
    heading = "All about the keys"
    with filled.write() as session:
        (made,) = (one for one in headings.list_page(session, 1, limit=9) if one.text == heading)
        questions.add(session, 1, [NewQuestion(heading, made.relevant, None, None)])
    put(store, new_document(["The warden has it."], "keys", heading=heading))
    material = read(filled)
    with filled.read() as session:
        labelled = {row.text: row.id for row in questions.list_page(session, 1)}
    assert heading not in texts(material) and labelled[heading] in material.questions
    with filled.write() as session:
        assert questions.remove(session, 1, labelled[heading]).removed
    assert heading in texts(read(filled))
    with filled.read() as session:
        assert not personal_examples.is_there(session, 1, material)
