"""Subjects and their examples: what belongs together, what is held back, what erasure leaves."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.participant.trainer import Trainer, TrainingTask
from privacy.encoding import RoundingSecret, quantise
from retrieval import questions
from retrieval.embedding import Embedder
from retrieval.examples import Example, ExampleSource
from retrieval.questions import QuestionError
from tests.federation.participant.plans import BASIS, PUBLIC_TEXTS, SIZE, make_plan
from tests.nodes import Node, files_holding, open_node

SECRET = b"s" * 32
TOPICS = ("oak trees", "ice skating", "tide tables", "beekeeping", "stone walls", "night trains")


def document(topic: str) -> bytes:
    sections = "".join(
        f"## {part} of {topic}\n\nWhat there is to say about the {part} of {topic}.\n\n"
        for part in ("history", "practice", "future")
    )
    return f"# All about {topic}\n\n{sections}".encode()


def line(question: str, *relevant: str, **given: str) -> bytes:
    return json.dumps({"question": question, "relevant": list(relevant), **given}).encode()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Node]:
    with open_node(tmp_path_factory.mktemp("examples") / "home", embedder) as opened:
        yield opened


@pytest.fixture
def assistant(node: Node, request: pytest.FixtureRequest) -> Iterator[int]:
    """An assistant of its own for each test, gone afterwards."""
    made = node.assistant(request.node.name.replace("_", "-")[:40])
    yield made
    node.library.delete_assistant(made)


def add(node: Node, assistant_id: int, *lines: bytes) -> None:
    with node.database.write() as session:
        questions.add(session, assistant_id, questions.parse(lines))


def rows_of(
    trainer: Trainer, round_id: str, examples: list[tuple[bytes, tuple[Example, ...]]]
) -> dict[bytes, NDArray[np.float64]]:
    rng = np.random.default_rng(5)
    trainer.begin(round_id, (rng.standard_normal(SIZE) / 20).astype(np.float32), lambda: examples)
    assert trainer.wait(round_id, 120)
    return dict(trainer.rows(round_id))


class TestSubjects:
    def test_the_same_content_in_two_assistants_is_one_subject(
        self, node: Node, assistant: int
    ) -> None:
        other = node.assistant("other")
        files = {"oaks.md": document("oak trees")}
        (first,), (second,) = node.ingest(assistant, files), node.ingest(other, files)
        source = ExampleSource(node.database, SECRET)
        (subject,) = source.subjects()
        assert subject.documents == tuple(sorted((first, second)))
        ((_, examples),) = source.examples([subject])
        asked = [example.question for example in examples]
        assert len(set(asked)) == len(asked) > 0
        node.library.delete_assistant(other)

    def test_an_attribute_groups_documents_and_every_document_has_one_subject(
        self, node: Node, assistant: int
    ) -> None:
        grouped = node.ingest(
            assistant,
            {f"{topic}.md": document(topic) for topic in TOPICS[:2]},
            attributes={"subject": "patient 7"},
        )
        (alone,) = node.ingest(assistant, {"tides.md": document("tide tables")})
        found = [set(s.documents) for s in ExampleSource(node.database, SECRET).subjects()]
        assert sorted(found, key=len) == [{alone}, set(grouped)]

    def test_the_order_depends_on_the_secret_and_on_no_other_subject(
        self, node: Node, assistant: int
    ) -> None:
        ids = node.ingest(assistant, {f"{topic}.md": document(topic) for topic in TOPICS})
        source = ExampleSource(node.database, SECRET)
        before = [subject.documents for subject in source.subjects()]
        assert before != [s.documents for s in ExampleSource(node.database, b"t" * 32).subjects()]
        node.library.erase(assistant, [ids[2]], 30)
        after = [subject.documents for subject in source.subjects()]
        assert after == [documents for documents in before if documents != (ids[2],)]


class TestQuestions:
    def test_a_labelled_question_trains_its_passages_and_no_others(
        self, node: Node, assistant: int
    ) -> None:
        (oaks,) = node.ingest(assistant, {"oaks.md": document("oak trees")})
        lines = [line(f"question {i}?", f"{oaks}.1.1", answer="yes") for i in range(12)]
        add(node, assistant, *lines)
        source = ExampleSource(node.database, SECRET)
        ((_, examples),) = source.examples(source.subjects())
        labelled = [example for example in examples if example.answer is not None]
        held_back = {one.question for one in source.held_back()}
        asked = {example.question for example in examples}
        assert 0 < len(labelled) < 12
        assert asked.isdisjoint(held_back)
        assert {f"question {i}?" for i in range(12)} <= asked | held_back
        answers = source.held_back_answers()
        assert {one.question for one in answers} == {q for q in held_back if "question" in q}
        assert all(one.answer == "yes" for one in answers)
        for example in labelled:
            assert len(example.positives) == 1
            assert "practice of oak trees" in example.positives[0]
            assert example.positives[0] not in example.negatives
            assert all("oak trees" in text for text in example.negatives)

    def test_a_question_about_two_subjects_is_refused(self, node: Node, assistant: int) -> None:
        oaks, ice = node.ingest(assistant, {f"{t}.md": document(t) for t in TOPICS[:2]})
        with pytest.raises(QuestionError, match="question 1: its passages belong to 2 subjects"):
            add(node, assistant, line("which?", oaks, ice))
        with pytest.raises(QuestionError, match="do not have the attribute 'subject' = 'p7'"):
            add(node, assistant, line("which?", oaks, subject="p7"))
        with pytest.raises(QuestionError, match="'nowhere' is neither"):
            add(node, assistant, line("which?", "nowhere"))

    def test_a_question_replaces_its_own_subject_s_and_no_other_s(
        self, node: Node, assistant: int
    ) -> None:
        """What one subject is asked must not change what another one's row is made from."""
        oaks, ice = node.ingest(assistant, {f"{t}.md": document(t) for t in TOPICS[:2]})
        asked = (
            line("how long?", oaks),
            line("how long?", ice),
            line("how long?", ice, answer="x"),
        )
        for one in asked:
            add(node, assistant, one)
        with node.database.read() as session:
            kept = questions.list_page(session, assistant)
            assert [(q.answer, [r.document_id for r in q.relevant]) for q in kept] == [
                (None, [oaks]), ("x", [ice]),
            ]  # fmt: skip

    @pytest.mark.parametrize(
        "wrong",
        [
            b"{",
            b"[]",
            b'{"question": "a?"}',
            b'{"question": "a?", "relevant": []}',
            b'{"question": " ", "relevant": ["d"]}',
            b'{"question": "a?", "relevant": ["d"], "extra": 1}',
            b'{"question": "a?", "relevant": ["d"], "answer": 1}',
        ],
    )
    def test_a_line_of_another_form_is_refused_by_its_number(self, wrong: bytes) -> None:
        with pytest.raises(QuestionError, match=r"^line 3: "):
            questions.parse([line("fine?", "d"), b"", wrong])

    def test_erasing_a_document_erases_its_questions_from_every_file(
        self, node: Node, assistant: int
    ) -> None:
        oaks, ice = node.ingest(assistant, {f"{t}.md": document(t) for t in TOPICS[:2]})
        add(node, assistant, line("do quercines flower?", oaks), line("is skating fun?", ice))
        assert files_holding(node.home.root, [b"quercines"])
        job = node.library.erase(assistant, [oaks], 30)
        assert job.finished_at is not None
        assert not files_holding(node.home.root, [b"quercines"])
        with node.database.read() as session:
            (left,) = questions.list_page(session, assistant)
        assert left.text == "is skating fun?"


def test_erasing_a_subject_changes_no_other_row_by_a_bit(
    node: Node, assistant: int, tmp_path: Path
) -> None:
    """Row independence: training and encoding of a subject see nothing of another one."""
    ids = node.ingest(assistant, {f"{topic}.md": document(topic) for topic in TOPICS})
    add(node, assistant, *(line(f"why {i}?", document_id) for i, document_id in enumerate(ids)))
    plan = make_plan()
    source = ExampleSource(node.database, SECRET)
    trainer = Trainer(TrainingTask(plan, BASIS, PUBLIC_TEXTS, "packaged"))
    node.database.on_deletion(trainer.forget)
    try:
        before = rows_of(trainer, "before", source.examples(source.subjects()))
        assert trainer.is_running
        node.library.erase(assistant, [ids[3]], 30)
        # It had vectors of the erased texts by heart.
        assert not trainer.is_running
        after = rows_of(trainer, "after", source.examples(source.subjects()))
    finally:
        trainer.close()
    assert len(before) == len(TOPICS)
    assert len(after) == len(TOPICS) - 1
    secret = RoundingSecret(b"r" * 32)
    for row_id, row in after.items():
        assert np.abs(row).max() > 0
        assert np.array_equal(row, before[row_id])
        assert np.array_equal(
            quantise(row, row_id, plan.privacy, secret),
            quantise(before[row_id], row_id, plan.privacy, secret),
        )


def test_what_is_erased_while_it_is_read_is_not_trained_on(node: Node, assistant: int) -> None:
    ids = node.ingest(assistant, {f"{topic}.md": document(topic) for topic in TOPICS[:3]})
    source = ExampleSource(node.database, SECRET)
    trainer = Trainer(TrainingTask(make_plan(), BASIS, PUBLIC_TEXTS, "packaged"))
    node.database.on_deletion(trainer.forget)

    def read() -> list[tuple[bytes, tuple[Example, ...]]]:
        found = source.examples(source.subjects())
        if len(found) == 3:
            node.library.erase(assistant, [ids[0]], 30)
        return found

    try:
        trainer.begin("round", np.zeros(SIZE, np.float32), read)
        assert trainer.wait("round", 120)
        kept = {one.subject_id for one in source.subjects()}
        assert {row_id for row_id, _ in trainer.rows("round")} == kept and len(kept) == 2
    finally:
        trainer.close()


@pytest.mark.faults
def test_a_killed_training_process_costs_its_rows_and_no_more(node: Node, assistant: int) -> None:
    node.ingest(assistant, {f"{topic}.md": document(topic) for topic in TOPICS[:2]})
    source = ExampleSource(node.database, SECRET)
    examples = source.examples(source.subjects())
    trainer = Trainer(TrainingTask(make_plan(), BASIS, PUBLIC_TEXTS, "packaged"))
    try:
        trainer.begin("killed", np.zeros(SIZE, np.float32), lambda: examples)
        assert trainer._process is not None
        os.kill(trainer._process.pid, signal.SIGKILL)
        assert trainer.wait("killed", 60)
        assert len(rows_of(trainer, "next", examples)) == 2
        assert trainer.rows("killed") == []
    finally:
        trainer.close()
