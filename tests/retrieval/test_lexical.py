"""The lexical index of an assistant: expressions, and scores by BM25."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from retrieval import lexical
from retrieval.store import AssistantStore
from storage.database import Database
from storage.node_tables import Chunk
from tests.nodes import add_assistant, new_document, open_store
from tests.retrieval.stores import put

Words = Callable[[AssistantStore, str], set[str]]


@pytest.fixture
def matching(database: Database) -> Words:
    """The texts that match an expression lexically."""

    def match(store: AssistantStore, question: str) -> set[str]:
        expression = lexical.expression(question)
        if expression is None:
            return set()
        with database.read() as session:
            ids = [
                row[0] for row in session.execute(lexical.ranking(store.assistant_id, expression))
            ]
            return set(session.scalars(select(Chunk.text).where(Chunk.id.in_(ids))))

    return match


class TestWords:
    @pytest.mark.parametrize(
        ("question", "matches"),
        [
            ("vaccination", True),  # Porter's stem is the same for vaccinations
            ("VACCINATIONS?", True),
            ("naive cafe", True),  # diacritics do not matter
            ('what "is" the NEAR(vaccination)', True),
            ("vaccination' OR 1=1 --", True),
            ("text:vaccination*", True),
            ("the of what is", False),
            ("penicillin", False),
            ("", False),
            ("   ?!  ", False),
            ("___", False),
            ("\0\0", False),
            ("NOT AND OR NEAR", False),
        ],
    )
    def test_any_question_is_an_expression(
        self, store: AssistantStore, matching: Words, question: str, matches: bool
    ) -> None:
        put(store, new_document(["Vaccinations in a naïve café"]))
        assert matching(store, question) == ({"Vaccinations in a naïve café"} if matches else set())

    def test_a_very_long_question_is_one_too(self, store: AssistantStore, matching: Words) -> None:
        put(store, new_document(["vaccination"]))
        question = "vaccination " + " ".join(f"word{number}" for number in range(20_000))
        assert matching(store, question) == {"vaccination"}

    def test_scores_of_one_assistant_do_not_depend_on_another(
        self, store: AssistantStore, database: Database, tmp_path: Path
    ) -> None:
        put(store, new_document(["alpha beta", "beta gamma", "delta"]))

        def scores() -> list[tuple[int, float]]:
            with database.read() as session:
                return [(row[0], row[1]) for row in session.execute(lexical.ranking(1, '"alpha"'))]

        before = scores()
        other = open_store(database, add_assistant(database, "b"), tmp_path / "other")
        put(other, new_document([f"alpha {number}" for number in range(50)]))
        assert scores() == before
        with database.write() as session:
            lexical.rebuild(session, 1)
        assert scores() == before

    def test_bm25_is_that_of_the_formula(self, store: AssistantStore, database: Database) -> None:
        # FTS5's documentation: sum over terms of idf * tf (k1 + 1) / (tf + k1 (1 - b + b len/avg)),
        # k1 = 1.2, b = 0.75, idf = ln((N - n + .5) / (n + .5)); len counts all columns.
        texts = ["alpha alpha beta", "beta gamma delta epsilon", "gamma", "delta", "beta"]
        put(store, new_document(texts))
        with database.read() as session:
            rows = dict(
                session.execute(select(Chunk.text, Chunk.id).where(Chunk.assistant_id == 1)).all()
            )
            score = dict(session.execute(lexical.ranking(1, '"alpha"')).all())
        lengths = [len(text.split()) for text in texts]
        average = sum(lengths) / len(lengths)
        idf = np.log((5 - 1 + 0.5) / (1 + 0.5))
        expected = idf * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 3 / average))
        assert score == {rows["alpha alpha beta"]: pytest.approx(expected, rel=1e-6)}
