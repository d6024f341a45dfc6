"""Feedback and conversations: what becomes an example, what sharing sees, what erasure takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from retrieval import conversations, feedback, questions
from retrieval.conversations import DAY_SECONDS, NewTurn
from retrieval.embedding import Embedder
from retrieval.feedback import FeedbackError, NothingToLearnError, TooMuchPendingError
from storage.declarative import now
from storage.example_tables import (
    ConversationTurn,
    FeedbackState,
    PersonalKind,
)
from storage.node_tables import Assistant, Key
from tests.nodes import Node, files_holding, open_node, until
from tests.retrieval.feedback.giving import (
    ERASE_SECONDS,
    approve,
    give,
    learned,
    make_key,
    marks,
    text,
)


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

    @pytest.mark.parametrize("by", ["sources", "kept turn"])
    @pytest.mark.parametrize(
        ("answer", "wanted"), [("Ten years [2].", [1]), ("Nobody knows.", [0, 1])]
    )
    def test_a_corrected_answer_teaches_the_generator_what_it_was_written_from(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str],
        answer: str, wanted: list[int], by: str,
    ) -> None:  # fmt: skip
        """By what it cites, or else by all that was read; nobody said that this answers it."""
        oaks, tides = documents
        sources = (f"{tides}.1.0", f"{oaks}.1.0", f"{oaks}.1.1")
        given = {
            "rating": -1, "corrected_answer": "A thousand [1].", "ratings": {f"{oaks}.1.1": -1}
        }  # fmt: skip
        if by == "sources":
            given |= {"answer": answer, "sources": sources}
        else:
            keep(node, assistant, f"c-{answer}", key, list(sources), answer=answer)
            given |= {"question": None, "completion_id": f"c-{answer}"}
        made = give(node, assistant, key, **given)
        number = approve(node, assistant, made.id)
        ((question, corrected, marked),) = marks(node, assistant)
        read = {sources[number]: True for number in wanted}
        assert corrected == "A thousand."
        assert marked == read | {f"{oaks}.1.1": False}
        (example,) = learned(node, assistant, PersonalKind.GENERATOR).examples
        assert (example.question, example.answer) == (question, "A thousand.")
        assert len(example.positives) == len(wanted)
        known = {one.question for one in learned(node, assistant).examples}
        assert question not in known
        # Once the owner says what answers it, the retriever learns it too.
        with node.database.write() as session:
            new = questions.read({"question": question, "relevant": [oaks]})
            assert questions.edit(session, assistant, number, new) is not None
        assert question in {one.question for one in learned(node, assistant).examples}

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

    def test_the_same_feedback_again_leaves_what_the_owner_decided(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        given = {"completion_id": "c-2", "ratings": {f"{documents[0]}.1.0": 1}}
        first = give(node, assistant, key, **given)
        number = approve(node, assistant, first.id)
        again = give(node, assistant, key, **given)
        assert (again.id, again.state, again.question_id) == (
            first.id, FeedbackState.APPROVED, number,
        )  # fmt: skip

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
    node: Node,
    assistant: int,
    name: str,
    key: Key | None,
    passages: list[str],
    answer: str = "Yes.",
    chat: str | None = None,
    earlier: tuple[str, ...] = (),
) -> bool:
    read = tuple((passage, passage.partition(".")[0]) for passage in passages)
    turn = NewTurn(
        name, key and key.id, chat or f"chat {name}", f"asked {name}", answer, read, earlier
    )
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

    def test_what_has_expired_is_unknown_before_it_is_erased(
        self, node: Node, assistant: int, key: Key
    ) -> None:
        for name in ("c-23", "c-24"):
            keep(node, assistant, name, key, [])
        with node.database.write() as session:
            session.get_one(ConversationTurn, "c-23").created_at = now() - 7 * DAY_SECONDS
        assert turns(node, assistant) == ["c-24"]
        with pytest.raises(FeedbackError, match="has not kept"):
            give(node, assistant, key, question=None, completion_id="c-23")
        with node.database.write() as session:
            session.get_one(Assistant, assistant).conversation_days = None
        assert turns(node, assistant) == []
        with node.database.read() as session:
            assert session.get(ConversationTurn, "c-23") is not None

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
    def test_a_document_takes_the_other_answers_of_a_chat_that_may_repeat_it(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        oaks, tides = documents
        keep(node, assistant, "1", key, [f"{oaks}.1.0"], chat="a")
        keep(node, assistant, "2", key, [], chat="a")
        keep(node, assistant, "3", key, [f"{tides}.1.0"], chat="b")
        keep(node, assistant, "4", make_key(node), [], chat="a")
        # The owner at the node itself has no key.
        keep(node, assistant, "5", None, [f"{oaks}.1.0"], chat="c")
        keep(node, assistant, "6", None, [], chat="c")
        keep(node, assistant, "7", None, [], chat="a")
        node.library.erase(assistant, [oaks], ERASE_SECONDS)
        assert sorted(turns(node, assistant)) == ["3", "4", "7"]

    def test_what_goes_on_after_an_erasure_brings_nothing_back(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        """The client's history still quotes the document, and the new answer may repeat it."""
        oaks, tides = documents
        keep(node, assistant, "o1", key, [f"{oaks}.1.0"], answer="Oaks are old [1].", chat="o")
        keep(node, assistant, "t1", key, [f"{tides}.1.0"], answer="Tides turn [1].", chat="t")
        about_oaks = {"earlier": ("Oaks are old [1].", "")}
        assert keep(node, assistant, "o2", key, [], answer="Yes, old.", chat="o", **about_oaks)
        node.library.erase(assistant, [oaks], ERASE_SECONDS)
        assert not keep(node, assistant, "o3", key, [f"{tides}.1.0"], chat="o", **about_oaks)
        about_tides = {"earlier": ("Tides turn [1].\n",)}
        assert keep(node, assistant, "t2", key, [], chat="t", **about_tides)
        # What another key, another chat or nobody knows of is not kept for this one.
        assert not keep(node, assistant, "t3", make_key(node), [], chat="t", **about_tides)
        assert not keep(node, assistant, "t4", None, [], chat="t", **about_tides)
        assert not keep(node, assistant, "t5", key, [], chat="u", **about_tides)
        assert not keep(
            node, assistant, "t6", key, [], chat="t", earlier=("Tides turn [1].", "Oaks are old.")
        )
        unnamed = NewTurn("t7", key.id, None, "q", "a", (), earlier=("Tides turn [1].",))
        with node.database.write() as session:
            assert not conversations.keep(session, assistant, unnamed)
        assert sorted(turns(node, assistant)) == ["t1", "t2"]

    def test_feedback_goes_with_a_document_that_its_answer_read_and_did_not_cite(
        self, node: Node, assistant: int, key: Key, documents: tuple[str, str]
    ) -> None:
        oaks, tides = documents
        sources = (f"{tides}.1.0", f"{oaks}.1.0")
        made = give(node, assistant, key, answer="They turn [1].", sources=sources)
        approve(node, assistant, made.id)
        assert marks(node, assistant)[0][2] == {f"{tides}.1.0": True}
        node.library.erase(assistant, [oaks], ERASE_SECONDS)
        assert marks(node, assistant) == []
        with node.database.read() as session:
            assert feedback.list_page(session, [assistant], limit=9) == []

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
            assert not feedback.remove_own(session, "another key", given.id).removed
            assert feedback.remove_own(session, key.id, given.id).removed == 1
        until(lambda: not files_holding(node.home.root, [b"kzxvw"]))
        assert marks(node, assistant) == []
