"""Feedback and conversations: what becomes an example, what sharing sees, what erasure takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from retrieval import conversations, feedback, headings, personal_examples, questions
from retrieval.conversations import DAY_SECONDS, NewTurn
from retrieval.embedding import Embedder
from retrieval.examples import ExampleSource
from retrieval.feedback import FeedbackError, NewFeedback, NothingToLearnError, TooMuchPendingError
from retrieval.personal_examples import PersonalMaterial
from storage import keys
from storage.declarative import now
from storage.example_tables import (
    ConversationTurn,
    Feedback,
    FeedbackState,
    LabelledQuestion,
    PersonalKind,
    QuestionOrigin,
)
from storage.node_tables import Assistant, Key, Scope
from tests.nodes import Node, files_holding, open_node, until

SECRET = b"s" * 32
ERASE_SECONDS = 60


def text(topic: str) -> bytes:
    parts = "".join(
        f"## {part} of {topic}\n\nWhat there is to say about the {part} of {topic}.\n\n"
        for part in ("history", "practice")
    )
    return f"# All about {topic}\n\n{parts}".encode()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Node]:
    with open_node(tmp_path_factory.mktemp("feedback") / "home", embedder) as opened:
        yield opened


@pytest.fixture
def assistant(node: Node, request: pytest.FixtureRequest) -> Iterator[int]:
    made = node.assistant(request.node.name.replace("_", "-")[:40])
    yield made
    node.library.delete_assistant(made)


@pytest.fixture
def documents(node: Node, assistant: int) -> tuple[str, str]:
    first, second = node.ingest(assistant, {f"{t}.md": text(t) for t in ("oak trees", "tides")})
    return first, second


@pytest.fixture(scope="module")
def key(node: Node) -> Key:
    return make_key(node)


def make_key(node: Node, *, trusted: bool = False) -> Key:
    with node.database.write() as session:
        made = keys.create(session, "somebody", Scope.USER, None).key
        made.feedback_is_approved = trusted
    return made


def give(node: Node, assistant: int, key: Key | None, **given: object) -> Feedback:
    new = replace(NewFeedback(1, question="How old do they get?"), **given)
    with node.database.write() as session:
        return feedback.give(session, assistant, key, new)


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
            for one in questions.list_page(session, assistant, origin=QuestionOrigin.FEEDBACK)
        ]


def learned(node: Node, assistant: int) -> PersonalMaterial:
    """What a personal retriever would learn from."""
    with node.database.read() as session:
        return personal_examples.read(session, assistant, PersonalKind.RETRIEVER, SECRET)


class TestExamples:
    def test_ratings_of_passages_say_what_answers_the_question(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        oaks, tides = documents
        ratings = {f"{oaks}.1.0": 1, f"{oaks}.1.1": -1, f"{tides}.1.0": 0}
        made = give(
            node, assistant, key, rating=-1, ratings=ratings, answer="Ten years [1].",
            corrected_answer="A thousand years.",
        )  # fmt: skip
        assert made.state is FeedbackState.PENDING
        assert marks(node, assistant) == []
        approve(node, assistant, made.id)
        approve(node, assistant, made.id)
        assert marks(node, assistant) == [
            (
                "How old do they get?",
                "A thousand years.",
                {f"{oaks}.1.0": True, f"{oaks}.1.1": False},
            )
        ]

    def test_an_answer_that_was_rated_up_stands_on_what_it_cites(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        oaks, tides = documents
        sources = (f"{tides}.1.0", f"{oaks}.1.0", f"{oaks}.1.1")
        made = give(
            node, assistant, key, answer="A thousand years [2]. And more [9].", sources=sources
        )
        approve(node, assistant, made.id)
        assert marks(node, assistant) == [
            ("How old do they get?", "A thousand years. And more.", {f"{oaks}.1.0": True})
        ]

    @pytest.mark.parametrize(
        "given",
        [
            {"rating": -1, "answer": "No."},
            {"rating": 1, "answer": "Yes."},
            {"rating": 0, "corrected_answer": "Better so."},
            {"rating": 1, "answer": "Nothing is cited.", "sources": True},
            {"rating": -1, "ratings": -1},
        ],
    )
    def test_where_nothing_answers_there_is_nothing_to_learn(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str],
        given: dict[str, object],
    ) -> None:  # fmt: skip
        passage = f"{documents[0]}.1.0"
        if "sources" in given:
            given = given | {"sources": (passage,)}
        if "ratings" in given:
            given = given | {"ratings": {passage: -1}}
        made = give(node, assistant, key, **given)
        with pytest.raises(NothingToLearnError, match="nothing to learn"):
            approve(node, assistant, made.id)
        assert marks(node, assistant) == []

    def test_a_passage_that_has_changed_teaches_nothing(
        self, node: Node, assistant: int, key: Key
    ) -> None:
        (document,) = node.ingest(assistant, {"a.md": text("bees")}, external_ids=["x"])
        made = give(node, assistant, key, ratings={f"{document}.1.0": 1})
        node.ingest(assistant, {"a.md": text("wasps")}, external_ids=["x"])
        with pytest.raises(NothingToLearnError, match="have changed"):
            approve(node, assistant, made.id)
        assert marks(node, assistant) == []

    def test_a_trusted_key_needs_no_approval(
        self, node: Node, assistant: int, documents: tuple[str, str]
    ) -> None:
        trusted = make_key(node, trusted=True)
        made = give(node, assistant, trusted, ratings={f"{documents[0]}.1.0": 1})
        assert made.state is FeedbackState.APPROVED
        assert len(marks(node, assistant)) == 1

    def test_rejecting_takes_the_example_back(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        made = give(node, assistant, key, ratings={f"{documents[0]}.1.0": 1})
        approve(node, assistant, made.id)
        with node.database.write() as session:
            found = feedback.get(session, assistant, made.id)
            assert found is not None
            feedback.reject(session, found)
        assert marks(node, assistant) == []


class TestGiving:
    def test_the_same_completion_from_the_same_key_is_replaced_with_its_example(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        ratings = {f"{documents[0]}.1.0": 1}
        first = give(node, assistant, key, completion_id="c-1", ratings=ratings)
        other = give(node, assistant, make_key(node), completion_id="c-1")
        approve(node, assistant, first.id)
        second = give(node, assistant, key, completion_id="c-1", rating=-1)
        with node.database.read() as session:
            left = {one.id for one in feedback.list_page(session, [assistant], limit=9)}
        assert left == {other.id, second.id}
        assert marks(node, assistant) == []

    @pytest.mark.parametrize("passage", ["doc-0.1.0", "of another"])
    def test_an_unknown_or_foreign_passage_is_named(
        self, node: Node, assistant: int, key: Key, passage: str
    ) -> None:
        if passage == "of another":
            (theirs,) = node.ingest(node.assistant("theirs"), {"b.md": text("bees")})
            passage = f"{theirs}.1.0"
        with pytest.raises(FeedbackError, match=passage):
            give(node, assistant, key, ratings={passage: 1})

    def test_what_waits_for_the_owner_is_bounded(
        self, node: Node, assistant: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("retrieval.feedback.MOST_PENDING", 2)
        busy, quiet = make_key(node), make_key(node)
        for number in (1, 2, 2):
            give(node, assistant, busy, completion_id=f"c-{number}")
        with pytest.raises(TooMuchPendingError):
            give(node, assistant, busy, completion_id="c-3")
        assert give(node, assistant, quiet).id

    def test_a_kept_conversation_knows_the_question_for_the_key_that_asked(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        oaks, _ = documents
        keep(node, assistant, "c-7", key, [f"{oaks}.1.1", f"{oaks}.1.0"], answer="Yes [2].")
        made = give(node, assistant, key, question=None, completion_id="c-7")
        assert (made.question, made.answer) == ("asked c-7", "Yes [2].")
        approve(node, assistant, made.id)
        assert marks(node, assistant)[0][2] == {f"{oaks}.1.0": True}
        by_chat = give(node, assistant, key, question=None, chat_id="chat c-7")
        assert by_chat.completion_id == "c-7"
        with pytest.raises(FeedbackError, match="has not kept"):
            give(node, assistant, make_key(node), question=None, completion_id="c-7")
        with pytest.raises(FeedbackError, match="has not kept"):
            give(node, assistant, key, question=None, completion_id="c-8")


def keep(
    node: Node, assistant: int, name: str, key: Key, passages: list[str], answer: str = "Yes."
) -> bool:
    read = tuple((passage, passage.partition(".")[0]) for passage in passages)
    turn = NewTurn(name, key.id, f"chat {name}", f"asked {name}", answer, read)
    with node.database.write() as session:
        own = session.get_one(Assistant, assistant)
        if own.conversation_days is None:
            own.conversation_days = 7
        return conversations.keep(session, assistant, turn)


def turns(node: Node, assistant: int) -> list[str]:
    with node.database.read() as session:
        return [one.id for one in conversations.list_page(session, assistant, limit=100)]


class TestConversations:
    def test_none_is_kept_unless_the_owner_wants_it(
        self, node: Node, assistant: int, key: Key
    ) -> None:
        turn = NewTurn("c-20", key.id, None, "q", "a", ())
        with node.database.write() as session:
            assert not conversations.keep(session, assistant, turn)
        assert turns(node, assistant) == []

    def test_an_answer_from_a_document_that_is_gone_is_not_kept(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        """It may quote what was erased while it was written."""
        oaks, tides = documents
        node.library.erase(assistant, [oaks], ERASE_SECONDS)
        assert not keep(node, assistant, "c-21", key, [f"{tides}.1.0", f"{oaks}.1.0"])
        assert keep(node, assistant, "c-22", key, [f"{tides}.1.0"])
        assert turns(node, assistant) == ["c-22"]

    def test_what_is_older_than_wanted_goes_from_every_file(
        self, tmp_path: Path, embedder: Embedder
    ) -> None:
        with open_node(tmp_path / "home", embedder) as node:
            made, key = node.assistant("kept"), make_key(node)
            for name, age in (("old", 7 * DAY_SECONDS + 1), ("new", 7 * DAY_SECONDS - 60)):
                keep(node, made, name, key, [], answer=f"zwvq{name}")
                with node.database.write() as session:
                    aged = update(ConversationTurn).where(ConversationTurn.id == name)
                    session.execute(aged.values(created_at=now() - age))
        assert files_holding(tmp_path, [b"zwvqold"])
        # The housekeeping of the next start finds it.
        with open_node(tmp_path / "home", embedder) as node:
            until(lambda: turns(node, made) == ["new"])
            until(lambda: not files_holding(tmp_path, [b"zwvqold"]))
            assert files_holding(tmp_path, [b"zwvqnew"])
            with node.database.write() as session:
                session.get_one(Assistant, made).conversation_days = None
            node.library.purge_conversations()
            until(lambda: not files_holding(tmp_path, [b"zwvqnew"]))


class TestErasure:
    def test_a_document_takes_its_feedback_and_conversations_from_every_file(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        oaks, tides = documents
        cited = f"{oaks}.1.0"
        for about, word in ((oaks, "xjqkwz"), (tides, "vhpyxq")):
            given = give(
                node, assistant, key, question=f"What of {word}q?", answer=f"{word}a",
                reason=f"{word}r", corrected_answer=f"{word}c", ratings={f"{about}.1.0": 1},
                details={"metadata": {"k": f"{word}m"}},
            )  # fmt: skip
            approve(node, assistant, given.id)
            keep(node, assistant, f"c-{word}", key, [f"{about}.1.0"], answer=f"{word}t")
        # It was only read for this one, whose example is about the other document.
        mixed = give(
            node, assistant, key, question="xjqkwzx?", answer="xjqkwzy",
            ratings={f"{tides}.1.1": 1, cited: 0},
        )  # fmt: skip
        approve(node, assistant, mixed.id)
        gone = [f"xjqkwz{letter}".encode() for letter in "qarcmtxy"]
        kept = [f"vhpyxq{letter}".encode() for letter in "qarcmt"]
        assert {needle for _, needle in files_holding(node.home.root, gone)} == set(gone)
        job = node.library.erase(assistant, [oaks], ERASE_SECONDS)
        assert job.result is not None
        assert any("feedback" in line for line in job.result["receipt"]["removed_from"])
        assert not files_holding(node.home.root, gone)
        assert {needle for _, needle in files_holding(node.home.root, kept)} == set(kept)
        assert [one[0] for one in marks(node, assistant)] == ["What of vhpyxqq?"]

    def test_feedback_that_is_erased_takes_its_example_from_every_file(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        given = give(node, assistant, key, question="kzxvw?", ratings={f"{documents[0]}.1.0": 1})
        approve(node, assistant, given.id)
        with node.database.write() as session:
            assert not feedback.remove_own(session, "another key", given.id)
            assert feedback.remove_own(session, key.id, given.id)
        node.library.blank_deletions()
        until(lambda: not files_holding(node.home.root, [b"kzxvw"]))
        assert marks(node, assistant) == []


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
        own, mixed, read = [q for i in range(40) if (q := f"question {i}?") not in held][:3]
        given = {
            own: {f"{oaks}.1.0": 1, f"{oaks}.1.1": -1},
            mixed: {f"{oaks}.1.0": 1, f"{tides}.1.0": -1},
            read: {f"{oaks}.1.0": 1, f"{tides}.1.0": 0},
        }
        for question, ratings in given.items():
            made = give(node, assistant, key, question=question, ratings=ratings, answer="G [1].")
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
            corrected_answer="Because.",
        )  # fmt: skip
        approve(node, assistant, made.id)
        assert self.shared(node, agreed=True)[question] == "Because."

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
            assert headings.hide(session, assistant, every[1].id)
            assert not headings.hide(session, assistant, every[1].id)
            assert not headings.hide(session, assistant, "doc-0.1.0")
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
    node.library.blank_deletions()
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
