"""How well labelled questions find their passages, with the very code that serves a node.

A document is ranked by its best passage. MRR, recall (against min(gold, 10)) and nDCG (binary
relevance) are cut at 10.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sqlalchemy import select

from retrieval import fusion, lexical
from retrieval.chunking import Chunker
from retrieval.embedding import Embedder, Vectors
from retrieval.index import VectorIndex
from retrieval.labelled import EVERYONE, DataError, Passage, Query
from retrieval.parsing.records import ParsedDocument, Section
from retrieval.query_map import QueryMap
from retrieval.search import Searcher
from retrieval.store import AssistantStore, NewDocument
from retrieval.vector_cache import VectorCache
from storage.database import Database
from storage.node_tables import Assistant, Document

TRAINING = "train"
# Questions per client that a weight is fitted on; more of them change it no further.
MOST_TRAINING = 400
CALLERS = 16
EMBEDDED_AT_ONCE = 512

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Means over questions, or over the means of clients."""

    mrr: float
    recall: float
    ndcg: float

    def as_json(self) -> dict[str, float]:
        names = {"mrr@10": self.mrr, "recall@10": self.recall, "ndcg@10": self.ndcg}
        return {name: round(value, 4) for name, value in names.items()}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics by mode; "hybrid_default" is the hybrid with the weight of a fresh assistant."""

    queries: int
    passages: int
    clients: int
    metrics: dict[str, Metrics]
    weights: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        means = {mode: metrics.as_json() for mode, metrics in self.metrics.items()}
        counts = {"queries": self.queries, "passages": self.passages, "clients": self.clients}
        return {**counts, **means, "weights": self.weights}


def evaluate(
    corpus: Sequence[Passage],
    queries: Sequence[Query],
    embedder: Embedder,
    *,
    scope: Literal["client", "global"] = "client",
    split: str = "test",
    query_map: QueryMap | None = None,
    cache: VectorCache | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Evaluation:
    """Index the corpus, fit a weight per client on its `train` questions, rank on `split`.

    `client` searches each client's own passages and averages over clients; `global` searches all
    of them and averages over questions. Questions go through `query_map` where there is one.

    Raises:
        DataError: there are no questions of that split, or one has no answer in the corpus.
    """

    def group(row: Passage | Query) -> str:
        return row.client if scope == "client" else EVERYONE

    known: dict[str, set[str]] = defaultdict(set)
    for passage in corpus:
        known[group(passage)].add(passage.id)
    # What a limit left out, or another client holds, can be neither found nor missed.
    queries = [replace(query, gold_ids=query.gold_ids & known[group(query)]) for query in queries]
    queries = [query for query in queries if query.gold_ids]
    asked = [query for query in queries if query.split == split]
    if not asked:
        raise DataError(f"no question of the split {split!r} has its answer in the corpus")

    with _library(corpus, group, embedder, cache, progress) as library:
        library.searcher.set_query_map(query_map)
        weights = _fit(library, queries, group, progress)
        metrics: dict[str, dict[str, list[Metrics]]] = defaultdict(lambda: defaultdict(list))
        for done, (query, candidates) in enumerate(library.candidates(asked, group), 1):
            for mode, scores in _scores(candidates, weights[group(query)]).items():
                ranked = fusion.rank_documents(candidates, scores)
                metrics[mode][group(query)].append(_metrics(ranked, query.gold_ids))
            progress("questions", done, len(asked))
    means = {
        mode: _mean([_mean(own) for own in by_group.values()]) for mode, by_group in metrics.items()
    }
    clients = {query.client for query in asked}
    return Evaluation(len(asked), len(corpus), len(clients), means, weights)


class _Library:
    """One assistant for each group of the corpus, in a folder that goes with it."""

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        self.database = Database(folder / "evaluation.db")
        self.database.migrate()
        self.assistants: dict[str, int] = {}
        self.stores: dict[int, AssistantStore] = {}
        self.searcher = Searcher(self.database, self.stores, embedder)
        self._folder = folder
        self._embedder = embedder

    def add(self, group: str, documents: Sequence[NewDocument], vectors: Vectors) -> None:
        with self.database.write() as session:
            assistant = Assistant(name=group, embedder=self._embedder.identity)
            session.add(assistant)
            session.flush()
            lexical.create(session, assistant.id)
        folder = self._folder / str(assistant.id)
        index = VectorIndex(folder, self._embedder.identity, self._embedder.dimension, "flat")
        store = AssistantStore(self.database, assistant.id, index)
        start = 0
        with store.changing() as change:
            for document in documents:
                end = start + len(document.passages)
                change.put(document, vectors[start:end])
                start = end
        self.assistants[group] = assistant.id
        self.stores[assistant.id] = store

    def candidates(
        self, queries: Sequence[Query], group: Callable[[Query], str]
    ) -> Iterator[tuple[Query, fusion.Candidates]]:
        """What each question's search would choose from, documents by their id in the corpus."""
        with self.database.read() as session:
            names: dict[str, str | None] = dict(
                session.execute(select(Document.id, Document.external_id)).all()
            )

        def one(query: Query) -> fusion.Candidates:
            found = self.searcher.candidates(self.assistants[group(query)], query.text)
            own = np.array([names[document] for document in found.documents], np.str_)
            return replace(found, documents=own)

        with ThreadPoolExecutor(CALLERS) as pool:
            yield from zip(queries, pool.map(one, queries), strict=True)

    def close(self) -> None:
        self.searcher.close()
        self.database.close()


@contextmanager
def _library(
    corpus: Sequence[Passage],
    group: Callable[[Any], str],
    embedder: Embedder,
    cache: VectorCache | None,
    progress: Progress,
) -> Iterator[_Library]:
    """The corpus indexed; its passages may be too long for the embedder and are chunked."""
    with tempfile.TemporaryDirectory(prefix="alcove-evaluation-") as folder:
        library = _Library(Path(folder), embedder)
        tokenizer = Path(folder) / "tokenizer.json"
        embedder.save_tokenizer(tokenizer)
        chunker = Chunker(tokenizer, embedder.max_tokens)
        groups: dict[str, list[NewDocument]] = defaultdict(list)
        for passage in corpus:
            groups[group(passage)].append(_document(passage, chunker))
        try:
            done = 0
            for name, documents in groups.items():
                texts = [part.embedded_text for one in documents for part in one.passages]
                vectors = [np.empty((0, embedder.dimension), np.float32)]
                for start in range(0, len(texts), EMBEDDED_AT_ONCE):
                    some = texts[start : start + EMBEDDED_AT_ONCE]
                    embed = embedder.passages
                    vectors.append(cache.vectors(some, embed) if cache else embed(some))
                    progress("passages embedded", done := done + len(some), 0)
                library.add(name, documents, np.concatenate(vectors))
            yield library
        finally:
            library.close()


def _document(passage: Passage, chunker: Chunker) -> NewDocument:
    text = passage.text
    parsed = ParsedDocument(
        media_type="text/plain",
        title=passage.title or None,
        text=text,
        sections=(Section((), 0, len(text)),),
        page_starts=(),
        markdown=False,
    )
    return NewDocument(
        name=passage.id,
        title=passage.title,
        media_type="text/plain",
        # Some corpora hold one text under two ids; both are to be found.
        content_hash=hashlib.sha256(f"{passage.id}\0{text}".encode()).digest(),
        size=len(text.encode()),
        external_id=passage.id,
        passages=chunker.chunk(parsed),
    )


def _fit(
    library: _Library,
    queries: Sequence[Query],
    group: Callable[[Query], str],
    progress: Progress,
) -> dict[str, float]:
    """Each group's weight from its `train` questions, a sample chosen by hash."""
    training: dict[str, list[Query]] = defaultdict(list)
    for query in sorted(queries, key=lambda q: hashlib.sha256(q.id.encode()).digest()):
        own = training[group(query)]
        if query.split == TRAINING and len(own) < MOST_TRAINING:
            own.append(query)
    labelled: dict[str, list[fusion.Labelled]] = defaultdict(list)
    chosen = [query for own in training.values() for query in own]
    for done, (query, candidates) in enumerate(library.candidates(chosen, group), 1):
        labelled[group(query)].append(fusion.Labelled(candidates, query.gold_ids))
        progress("training questions", done, len(chosen))
    return {name: fusion.fit_weight(labelled[name]) for name in library.assistants}


def _scores(candidates: fusion.Candidates, weight: float) -> dict[str, fusion.Floats]:
    return {
        "dense": fusion.mix(candidates, 0.0),
        "lexical": fusion.mix(candidates, 1.0),
        "hybrid": fusion.mix(candidates, weight),
        "hybrid_default": fusion.mix(candidates, fusion.DEFAULT_WEIGHT),
    }


def _metrics(ranked: Sequence[str], gold: frozenset[str]) -> Metrics:
    places = [place for place, document in enumerate(ranked, 1) if document in gold]
    reachable = min(len(gold), fusion.CUT)
    ideal = sum(1 / math.log2(place + 1) for place in range(1, reachable + 1))
    gain = sum(1 / math.log2(place + 1) for place in places)
    return Metrics(1 / places[0] if places else 0.0, len(places) / reachable, gain / ideal)


def _mean(metrics: Sequence[Metrics]) -> Metrics:
    rows = np.array([(one.mrr, one.recall, one.ndcg) for one in metrics])
    return Metrics(*(float(value) for value in rows.mean(axis=0)))
