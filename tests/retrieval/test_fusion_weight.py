"""An assistant's own mixture of dense and lexical scores."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval import fusion
from retrieval.fusion_weight import Question, learn_from_labels, learn_from_titles
from retrieval.query_map import QueryMap, random_basis
from storage.node_tables import Assistant, WeightSource
from tests.nodes import new_document
from tests.retrieval.conftest import MakeShelf, Shelf

NUMBERS = [f"{i:02d}{(i * 37) % 100:02d}{(i * 53) % 100:02d}" for i in range(30)]


def kept(shelf: Shelf, assistant_id: int) -> tuple[float | None, WeightSource | None]:
    with shelf.database.read() as session:
        assistant = session.get_one(Assistant, assistant_id)
        return assistant.lexical_weight, assistant.weight_source


@pytest.fixture
def shelf(make_shelf: MakeShelf) -> Shelf:
    """Thirty documents that are told apart by a word of their text and by their titles."""
    made = make_shelf()
    made.assistant(
        "screws",
        *(
            new_document([f"Screw {number} is kept in the store."], title=f"All about {number}")
            for number in NUMBERS
        ),
    )
    return made


def questions(shelf: Shelf, n: int) -> list[Question]:
    """Questions that only a common word answers, and that the dense score gets wrong."""
    asked = []
    for number in NUMBERS[:n]:
        hit = shelf.searcher.search(1, f"screw {number}", k=1, mode="lexical")[0]
        assert number in hit.text
        asked.append(Question(f"Where is {number}?", frozenset({hit.document_id})))
    return asked


class TestLabels:
    def test_it_is_fitted_kept_and_used(self, shelf: Shelf) -> None:
        asked = questions(shelf, 30)
        weight = learn_from_labels(shelf.database, shelf.searcher, 1, asked)
        labelled = [
            fusion.Labelled(shelf.searcher.candidates(1, one.text), one.document_ids)
            for one in asked
        ]
        assert weight == fusion.fit_weight(labelled)
        assert kept(shelf, 1) == (weight, WeightSource.LABELS)
        scores = {
            hit.chunk_id: (hit.score, hit.dense, hit.lexical)
            for hit in shelf.searcher.search(1, asked[0].text, k=30)
        }
        highest = max(lexical for _, _, lexical in scores.values())
        for score, dense, lexical in scores.values():
            mixed = (1 - weight) * max(dense, 0) + weight * lexical / highest
            assert score == pytest.approx(mixed)

    def test_too_few_leave_the_default(self, shelf: Shelf) -> None:
        assert learn_from_labels(shelf.database, shelf.searcher, 1, questions(shelf, 5)) == 0.3
        assert kept(shelf, 1) == (0.3, WeightSource.LABELS)


class TestTitles:
    def test_they_stand_for_questions(self, shelf: Shelf) -> None:
        assert kept(shelf, 1) == (None, None)
        learn_from_titles(shelf.database, shelf.searcher, 1)
        weight, source = kept(shelf, 1)
        assert source is WeightSource.TITLES
        assert weight in fusion.WEIGHTS

    def test_they_do_not_overrule_labels(self, shelf: Shelf) -> None:
        with shelf.database.write() as session:
            assistant = session.get_one(Assistant, 1)
            assistant.lexical_weight, assistant.weight_source = 0.85, WeightSource.LABELS
        learn_from_titles(shelf.database, shelf.searcher, 1)
        assert kept(shelf, 1) == (0.85, WeightSource.LABELS)

    def test_labels_overrule_them(self, shelf: Shelf) -> None:
        learn_from_titles(shelf.database, shelf.searcher, 1)
        learn_from_labels(shelf.database, shelf.searcher, 1, questions(shelf, 3))
        assert kept(shelf, 1)[1] is WeightSource.LABELS

    def test_without_documents_there_is_nothing_to_learn(self, shelf: Shelf) -> None:
        assistant_id, _ = shelf.assistant("empty")
        learn_from_titles(shelf.database, shelf.searcher, assistant_id)
        assert kept(shelf, assistant_id) == (None, None)

    def test_it_goes_with_the_last_document(self, shelf: Shelf) -> None:
        assistant_id, _ = shelf.assistant("emptied")
        with shelf.database.write() as session:
            assistant = session.get_one(Assistant, assistant_id)
            assistant.lexical_weight, assistant.weight_source = 0.85, WeightSource.TITLES
        learn_from_titles(shelf.database, shelf.searcher, assistant_id)
        assert kept(shelf, assistant_id) == (None, None)

    def test_nothing_of_a_personal_adapter_is_in_it(self, shelf: Shelf) -> None:
        """It would stay when the adapter is erased."""
        before = shelf.searcher.candidates(1, "screw").dense
        dimension = shelf.embedder.dimension
        weights = np.random.default_rng(1).standard_normal((4, dimension)).astype(np.float32)
        personal = QueryMap(random_basis(dimension, 4, seed=1), weights)
        plain = shelf.searcher.search(1, "screw", k=30, mode="dense")
        shelf.searcher.set_personal_map(1, personal)
        assert shelf.searcher.search(1, "screw", k=30, mode="dense") != plain
        assert np.array_equal(shelf.searcher.candidates(1, "screw").dense, before)

    def test_short_titles_say_too_little(self, shelf: Shelf) -> None:
        assistant_id, _ = shelf.assistant(
            "short", *(new_document([f"Text {number}."], title="Title") for number in NUMBERS)
        )
        learn_from_titles(shelf.database, shelf.searcher, assistant_id)
        assert kept(shelf, assistant_id) == (0.3, WeightSource.TITLES)

    def test_a_title_does_not_find_itself_by_its_words(self, shelf: Shelf) -> None:
        """In the headings it would, so they are left out of the lexical match."""
        assistant_id, (document_id,) = shelf.assistant(
            "headed", new_document(["Text of no account."], heading="Zanzibar archipelago")
        )
        everywhere = shelf.searcher.candidates(assistant_id, "Zanzibar archipelago")
        below = shelf.searcher.candidates(assistant_id, "Zanzibar archipelago", text_only=True)
        assert everywhere.documents.tolist() == below.documents.tolist() == [document_id]
        assert (everywhere.lexical > 0).all()
        assert (below.lexical == 0).all()
