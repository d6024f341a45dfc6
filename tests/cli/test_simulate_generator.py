"""`alcove simulate --adapter generator`, refused before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import refusal, run

QUESTION = {
    "text": "Where is the oil?",
    "client": "shop",
    "subclient": "shelf",
    "gold_ids": ["oil"],
}
ANSWER = {"answer": "on shelf 3"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("terms", "tested", "message"),
    [
        ("", {}, "a generator is scored by answers, and a question has none"),
        ("[adapter]\ndimension = 384\n", ANSWER, "dimension belongs to a retriever"),
        ("[generator_terms]\nmicro_batch = 0\n", ANSWER, "micro_batch"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    tmp_path: Path, terms: str, tested: dict[str, str], message: str
) -> None:
    passage = {"id": "oil", "text": "Oil is on shelf 3.", "client": "shop", "subclient": "shelf"}
    train = {"id": "a", "split": "train", **ANSWER, **QUESTION}
    test = {"id": "b", "split": "test", **tested, **QUESTION}
    (tmp_path / "corpus").write_text(json.dumps(passage))
    (tmp_path / "queries").write_text(f"{json.dumps(train)}\n{json.dumps(test)}")
    (tmp_path / "plan.toml").write_text(f"cohort = 3\n{terms}")
    done = run(
        "simulate", "--corpus", tmp_path / "corpus", "--queries", tmp_path / "queries",
        "--adapter", "generator", "--mode", "none", "--plan", tmp_path / "plan.toml",
    )  # fmt: skip
    assert message in refusal(done)
