"""What feedback, headings and edited questions teach, and whom."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from retrieval import conversations, feedback, headings, questions
from retrieval.conversations import NewTurn
from retrieval.examples import ExampleSource
from storage.declarative import now
from storage.example_tables import (
    ConversationTurn,
    Feedback,
    LabelledQuestion,
    QuestionOrigin,
)
from storage.node_tables import Assistant, Key
from tests.nodes import Node, files_holding, until
from tests.retrieval.feedback.giving import (
    ERASE_SECONDS,
    SECRET,
    approve,
    give,
    learned,
)


class TestSharing:
    def shared(self, node: Node, *, agreed: bool) -> dict[str, str | None]:
        source = ExampleSource(node.database, SECRET, lambda: agreed)
        return {
            one.question: one.answer
            for _, examples in source.examples(source.subjects())
            for one in examples
        }

    def test_feedback_is_shared_only_if_the_owner_agrees_and_of_one_subject_only(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        oaks, tides = documents
        source = ExampleSource(node.database, SECRET)
        held = [q for q in (f"question {i}?" for i in range(40)) if source._is_held_back(q)]
        chosen = [q for i in range(40) if (q := f"question {i}?") not in held]
        own, mixed, read, untold, later = chosen[:5]
        given = {
            own: {f"{oaks}.1.0": 1, f"{oaks}.1.1": -1},
            mixed: {f"{oaks}.1.0": 1, f"{tides}.1.0": -1},
            read: {f"{oaks}.1.0": 1, f"{tides}.1.0": 0},
            # Without what was read for the answer nobody knows whose text it may repeat.
            untold: {f"{oaks}.1.0": 1},
            # What was said before may have been about any subject.
            later: {f"{oaks}.1.0": 1},
        }
        for question, ratings in given.items():
            made = give(
                node, assistant, key, question=question, ratings=ratings, answer="G [1].",
                sources=() if question == untold else tuple(ratings), is_first=question != later,
            )  # fmt: skip
            approve(node, assistant, made.id)
        assert not given.keys() & self.shared(node, agreed=False).keys()
        # What the node generated depends on more than one subject, what a person wrote does not.
        assert {q: a for q, a in self.shared(node, agreed=True).items() if q in given} == {
            own: None
        }
        material = learned(node, assistant)
        personal = {one.question: one for one in material.examples}
        assert personal.keys() >= given.keys()
        assert personal[own].answer == "G."
        (wrong,) = personal[mixed].negatives
        (right,) = personal[mixed].positives
        assert material.passages[wrong].splitlines()[-1] in node.text(tides)
        assert material.passages[right].splitlines()[-1] in node.text(oaks)

    def test_a_corrected_answer_is_shared(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        source = ExampleSource(node.database, SECRET)
        question = next(q for i in range(40) if not source._is_held_back(q := f"why {i}?"))
        ratings = {f"{documents[0]}.1.0": 1}
        made = give(
            node, assistant, key, question=question, ratings=ratings, answer="No.",
            corrected_answer="Because.", sources=tuple(ratings), is_first=True,
        )  # fmt: skip
        approve(node, assistant, made.id)
        assert self.shared(node, agreed=True)[question] == "Because."

    def test_a_kept_answer_is_shared_only_if_it_began_its_chat(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        source = ExampleSource(node.database, SECRET)
        asked = [q for i in range(40) if not source._is_held_back(q := f"where {i}?")][:2]
        read = ((f"{documents[0]}.1.0", documents[0]),)
        for number, question in enumerate(asked):
            earlier = ("A 0 [1].",) if number else ()
            answer = f"A {number} [1]."
            turn = NewTurn(f"w-{number}", key.id, "where", question, answer, read, earlier)
            with node.database.write() as session:
                session.get_one(Assistant, assistant).conversation_days = 7
                assert conversations.keep(session, assistant, turn)
                session.get_one(ConversationTurn, f"w-{number}").created_at = now() - 60 + number
            made = give(node, assistant, key, question=None, completion_id=f"w-{number}")
            approve(node, assistant, made.id)
        assert set(asked) & self.shared(node, agreed=True).keys() == {asked[0]}

    def test_a_passage_marked_as_no_answer_is_a_negative_within_its_subject(
        self, node: Node, assistant: int, documents: tuple[str, str]
    ) -> None:
        oaks, tides = documents
        source = ExampleSource(node.database, SECRET)
        question = next(q for i in range(40) if not source._is_held_back(q := f"when {i}?"))
        line = questions.read(
            {"question": question, "relevant": [oaks], "not_relevant": [f"{oaks}.1.1", tides]}
        )
        with node.database.write() as session:
            questions.add(session, assistant, [line])
        subjects = source.subjects()
        found = [
            one for _, made in source.examples(subjects) for one in made if one.question == question
        ]
        (example,) = found
        marked = node.text(oaks).splitlines()
        assert all("tides" not in passage for passage in (*example.positives, *example.negatives))
        assert any("practice of oak" in passage for passage in example.negatives)
        assert not any("practice of oak" in passage for passage in example.positives)
        assert len(example.positives) + len(example.negatives) == len(marked)
        # The mark on another subject goes with that subject and changes nothing here.
        node.library.erase(assistant, [tides], ERASE_SECONDS)
        left = [one for _, made in source.examples(source.subjects()) for one in made]
        assert example in left


class TestHeadings:
    def test_they_are_listed_page_by_page_and_hidden_for_good(
        self, node: Node, assistant: int, documents: tuple[str, str]
    ) -> None:
        with node.database.read() as session:
            every = headings.list_page(session, assistant, limit=100)
            pages, after = [], None
            while page := headings.list_page(session, assistant, limit=1, after=after):
                pages += page
                after = page[-1].id
        assert pages == every
        source = ExampleSource(node.database, SECRET)
        made = {one.question for one in learned(node, assistant).examples}
        assert {one.text for one in every} == made and len(every) >= 4
        with node.database.write() as session:
            assert headings.hide(session, assistant, every[1].id).removed == 1
            assert headings.hide(session, assistant, every[1].id).removed == 0
            assert headings.hide(session, assistant, "doc-0.1.0").removed == 0
        with node.database.read() as session:
            left = headings.list_page(session, assistant, limit=100)
        assert left == [one for one in every if one != every[1]]
        gone = made - {one.question for one in learned(node, assistant).examples}
        assert gone == {every[1].text}
        shared = {e.question for _, some in source.examples(source.subjects()) for e in some}
        assert every[1].text not in shared


def test_an_edited_question_keeps_its_id_and_its_feedback_and_nothing_of_its_text(
    node: Node, assistant: int, key: Key, documents: tuple[str, str]
) -> None:
    oaks, tides = documents
    made = give(node, assistant, key, question="wzkpq?", ratings={f"{oaks}.1.0": 1})
    number = approve(node, assistant, made.id)
    new = questions.read({"question": "Better?", "relevant": [oaks, tides], "answer": "So."})
    with node.database.write() as session:
        assert questions.edit(session, assistant, number, new) is not None
        assert questions.edit(session, assistant, number + 1, new) is None
    with node.database.read() as session:
        row = session.get_one(LabelledQuestion, number)
        assert (row.text, row.answer, row.origin) == ("Better?", "So.", QuestionOrigin.FEEDBACK)
        assert session.get_one(Feedback, made.id).question_id == number
    with node.database.write() as session:
        feedback.remove(session, assistant, made.id)
        assert session.scalars(select(LabelledQuestion.id)).all() == []
    until(lambda: not files_holding(node.home.root, [b"wzkpq"]))


@settings(max_examples=60)
@given(
    answer=st.text(alphabet="ab. []0123456789", max_size=60),
    sources=st.lists(st.sampled_from("pqrs"), max_size=4, unique=True),
)
def test_a_mark_stands_for_the_source_of_its_number(answer: str, sources: list[str]) -> None:
    """The rule of the HTTP interface: [n] is sources[n - 1]; other marks lead nowhere."""
    given = Feedback(rating=1, answer=answer, details={"sources": sources}, passages=[])
    expected = {
        name for number, name in enumerate(sources, 1)
        if any(part.split("]")[0].lstrip("0") == str(number) and "]" in part
               for part in answer.split("[")[1:])
    }  # fmt: skip
    assert set(feedback._lesson(given)) == expected
