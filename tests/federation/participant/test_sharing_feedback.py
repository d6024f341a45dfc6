"""What the owner agreed to reaches the examples of rounds."""

from __future__ import annotations

from pathlib import Path

from federation.participant.policy import ConsentPolicy
from retrieval import feedback
from retrieval.embedding import Embedder
from retrieval.feedback import NewFeedback
from tests.personal.towns import PLACES, open_town


def test_feedback_enters_rounds_as_soon_as_the_policy_says_so_and_no_longer(
    tmp_path: Path, embedder: Embedder
) -> None:
    with open_town(tmp_path / "home", embedder) as town:
        assistant = town.node.assistant()
        town.settle(assistant, PLACES[:1])
        assert town.federation._tools is not None
        source = town.federation._tools.source
        question = next(q for i in range(40) if not source._is_held_back(q := f"who {i}?"))
        passage = f"{town.document(assistant, f'{PLACES[0]}-b.txt')}.1.0"
        new = NewFeedback(
            1, question=question, answer="Nobody [1].", sources=(passage,), is_first=True
        )
        with town.node.database.write() as session:
            feedback.approve(session, feedback.give(session, assistant, None, new)[0])

        def is_shared() -> bool:
            made = source.examples(source.subjects())
            return question in {one.question for _, examples in made for one in examples}

        assert not is_shared()
        for agreed in (True, False):
            town.federation.consent.set_policy(ConsentPolicy(shares_feedback=agreed))
            assert is_shared() is agreed
