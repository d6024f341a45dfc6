"""The cross-encoder: a small real one, made on the spot, against its own logits."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from retrieval.embedding import EmbedderError
from retrieval.rerank import CrossEncoderReranker
from retrieval.search import RERANKED
from tests.nodes import new_document
from tests.retrieval.conftest import MakeShelf

QUESTION = "When is the library open?"
TEXTS = [
    f"The {place} opens at {hour}." for place in ("library", "pool", "museum") for hour in "6789"
]
LENGTH = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights: its order is no other part's order."""
    folder = tmp_path_factory.mktemp("reranker")
    words = {word.strip(".?") for text in [QUESTION, *TEXTS] for word in text.lower().split()}
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", *"abcdefghijklmnopqrstuvwxyz"]
    pieces += [f"##{piece}" for piece in "abcdefghijklmnopqrstuvwxyz"]
    # Sorted, since weights go by a piece's place: a set's order differs from run to run.
    pieces += [*"6789", *sorted(word for word in words if len(word) > 1)]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=LENGTH)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
        num_labels=1,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def logits(folder: Path) -> dict[str, float]:
    """The model's score of each text for the question, as transformers computes it, unpadded."""
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    model = BertForSequenceClassification.from_pretrained(folder).train(mode=False)
    with torch.inference_mode():
        return {
            text: float(model(**tokenizer(QUESTION, text, return_tensors="pt")).logits)
            for text in TEXTS
        }


def test_hits_are_in_the_order_of_its_scores(folder: Path, make_shelf: MakeShelf) -> None:
    expected = sorted(logits(folder).items(), key=lambda pair: -pair[1])
    scores = [score for _, score in expected]
    assert min(high - low for high, low in pairwise(scores)) > 1e-4
    shelf = make_shelf(reranker=CrossEncoderReranker(str(folder)))
    assistant_id, _ = shelf.assistant("town", *(new_document([text]) for text in TEXTS))
    hits = shelf.searcher.search(assistant_id, QUESTION, k=RERANKED)
    assert [hit.text for hit in hits] == [text for text, _ in expected]
    # sentence-transformers puts the one logit of a model through a sigmoid.
    squashed = torch.sigmoid(torch.tensor(scores))
    assert [hit.score for hit in hits] == pytest.approx(squashed.tolist(), abs=1e-4)
    plain = make_shelf()
    assistant_id, _ = plain.assistant("town", *(new_document([text]) for text in TEXTS))
    before = plain.searcher.search(assistant_id, QUESTION, k=RERANKED)
    assert [hit.text for hit in before] != [hit.text for hit in hits]
    for k in (1, 3):
        fewer = shelf.searcher.search(1, QUESTION, k=k)
        assert [hit.text for hit in fewer] == [hit.text for hit in hits[:k]]


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match="cannot load the reranker"):
        CrossEncoderReranker(str(tmp_path))
