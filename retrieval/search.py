"""A question to ranked passages: dense and lexical candidates, fused, optionally reranked."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import faiss
import numpy as np
from sqlalchemy import ColumnElement, bindparam, select
from sqlalchemy.orm import Session

from retrieval import filters, fusion, lexical
from retrieval.embedding import Embedder, Vectors
from retrieval.filters import Filter
from retrieval.index import Ids, VectorIndex
from retrieval.query_map import QueryMap
from retrieval.store import AssistantStore
from storage.database import Database
from storage.node_tables import Assistant, Chunk, Document

Mode = Literal["dense", "lexical", "hybrid"]

CANDIDATES = 100
MAX_RESULTS = 100
LARGEST_BATCH = 64
RERANKED = 30

_ROWS = (
    select(
        Chunk.id, Chunk.public_id, Chunk.position, Chunk.heading, Chunk.page, Chunk.text,
        Chunk.vector, Document.id.label("document_id"), Document.external_id, Document.name,
        Document.title,
    )
    .join(Document)
    .where(
        Chunk.assistant_id == bindparam("assistant_id"),
        Chunk.id.in_(bindparam("ids", expanding=True)),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found. `dense` is its cosine with the question, `lexical` its BM25 (0: no word in
    common, or a search by `dense` alone), `score` what it is ranked by; `page` counts from 1,
    `position` in the document from 0.
    """

    chunk_id: str
    document_id: str
    external_id: str | None
    name: str
    title: str
    heading: str
    page: int | None
    position: int
    text: str
    score: float
    dense: float
    lexical: float


class Reranker(Protocol):
    """Scores passages against a question, higher is better."""

    def __call__(self, question: str, passages: Sequence[str]) -> Sequence[float]: ...


@dataclass(frozen=True, slots=True)
class _Task:
    question: str
    index: VectorIndex
    allowed: Ids | None
    query_map: QueryMap | None
    result: Future[tuple[Vectors, list[tuple[int, float]]]]


class DenseSearcher:
    """One thread that embeds and searches what has come in together, in batches."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._shared: QueryMap | None = None
        self._personal: dict[int, QueryMap] = {}
        self._waiting: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        # Nothing comes after the end, so that nobody waits for an answer that cannot come.
        self._turn = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="dense-search", daemon=True)
        self._thread.start()

    def search(
        self,
        assistant_id: int,
        question: str,
        index: VectorIndex,
        allowed: Ids | None,
        *,
        personally: bool = True,
    ) -> Future[tuple[Vectors, list[tuple[int, float]]]]:
        """The question's unit vector as mapped, shape (dimension,), and its best (id, cosine).

        Without `personally` the shared map alone is used.

        Raises:
            RuntimeError: it is closed.
        """
        result: Future[tuple[Vectors, list[tuple[int, float]]]] = Future()
        with self._turn:
            if self._closed:
                raise RuntimeError("the search is closed")
            own = self._personal.get(assistant_id) if personally else None
            query_map = self._shared if own is None else own
            self._waiting.put(_Task(question, index, allowed, query_map, result))
        return result

    def set_query_map(self, query_map: QueryMap | None) -> None:
        """See `Searcher.set_query_map`."""
        self._check(query_map)
        with self._turn:
            self._shared = query_map
            self._personal.clear()

    def set_personal_map(self, assistant_id: int, query_map: QueryMap | None) -> None:
        """See `Searcher.set_personal_map`."""
        self._check(query_map)
        with self._turn:
            if query_map is None:
                self._personal.pop(assistant_id, None)
            else:
                self._personal[assistant_id] = query_map

    def _check(self, query_map: QueryMap | None) -> None:
        if query_map is not None and query_map.dimension != self._embedder.dimension:
            raise ValueError(
                f"the query map is for vectors of {query_map.dimension} numbers; the embedder's"
                f" have {self._embedder.dimension}"
            )

    def close(self) -> None:
        with self._turn:
            self._closed = True
            self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        # FAISS opens a team of threads for each calling thread; this one batches instead.
        faiss.omp_set_num_threads(1)
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < LARGEST_BATCH and not self._waiting.empty():
                task = self._waiting.get()
                if task is None:
                    self._waiting.put(None)
                    break
                batch.append(task)
            try:
                self._answer(batch)
            except Exception as error:
                for task in batch:
                    if not task.result.done():
                        task.result.set_exception(error)

    def _answer(self, batch: list[_Task]) -> None:
        vectors = self._embedder.questions([task.question for task in batch])
        for query_map in {task.query_map for task in batch}:
            if query_map is not None:
                own = [place for place, task in enumerate(batch) if task.query_map is query_map]
                vectors[own] = query_map.apply(vectors[own])
        together: dict[int, list[int]] = {}
        for place, task in enumerate(batch):
            # A filter belongs to one question, so only unfiltered ones share a search.
            key = id(task.index) if task.allowed is None else -1 - place
            together.setdefault(key, []).append(place)
        for places in together.values():
            task = batch[places[0]]
            found = task.index.search(vectors[places], CANDIDATES, task.allowed)
            for place, hits in zip(places, found, strict=True):
                batch[place].result.set_result((vectors[place], hits))


class Searcher:
    """Searches the assistants of a node. Safe in any thread."""

    def __init__(
        self,
        database: Database,
        stores: Mapping[int, AssistantStore],
        embedder: Embedder,
        reranker: Reranker | None = None,
    ) -> None:
        self._database = database
        self._stores = stores
        self._dense = DenseSearcher(embedder)
        self._rerank = reranker

    def search(
        self,
        assistant_id: int,
        question: str,
        *,
        k: int,
        mode: Mode = "hybrid",
        where: Filter | None = None,
    ) -> list[Hit]:
        """The `k` best passages of one assistant among the documents that `where` allows.

        Raises:
            FilterError: `where` is malformed.
            KeyError: there is no such assistant.
        """
        with self._database.read() as session:
            assistant = session.get(Assistant, assistant_id)
            if assistant is None:
                raise KeyError(assistant_id)
            weight = assistant.lexical_weight
            rows, candidates = self._candidates(
                session, assistant_id, question, where, lexically=mode != "dense"
            )
        if mode == "dense":
            scores = candidates.dense
        elif mode == "lexical":
            scores = np.where(candidates.lexical > 0, candidates.lexical, -np.inf)
        else:
            scores = fusion.mix(candidates, fusion.DEFAULT_WEIGHT if weight is None else weight)
        reranks = self._rerank is not None and mode == "hybrid"
        hits = [
            _hit(rows[place], float(scores[place]), candidates, int(place))
            for place in fusion.order(candidates, scores)[: RERANKED if reranks else k]
            if scores[place] > -np.inf
        ]
        if self._rerank is not None and mode == "hybrid" and hits:
            hits = _reranked(question, hits, self._rerank)[:k]
        return hits

    def candidates(
        self, assistant_id: int, question: str, *, text_only: bool = False
    ) -> fusion.Candidates:
        """What a search without personal adapters would choose from, so that nothing that is fitted
        to it outlives them; `text_only` keeps headings out of the lexical match."""
        with self._database.read() as session:
            return self._candidates(
                session, assistant_id, question, None, text_only=text_only, personally=False
            )[1]

    def _candidates(
        self,
        session: Session,
        assistant_id: int,
        question: str,
        where: Filter | None,
        *,
        lexically: bool = True,
        text_only: bool = False,
        personally: bool = True,
    ) -> tuple[list[Any], fusion.Candidates]:
        documents = filters.condition(where) if where else None
        allowed = _allowed_ids(session, assistant_id, documents)
        pending = self._dense.search(
            assistant_id,
            question,
            self._stores[assistant_id].index,
            allowed,
            personally=personally,
        )
        words = (
            _lexical_scores(session, assistant_id, question, documents, text_only)
            if lexically
            else {}
        )
        vector, nearest = pending.result()
        rows = _rows(session, assistant_id, {i for i, _ in nearest} | set(words))
        stored = np.frombuffer(b"".join(row.vector for row in rows), "<f4")
        return rows, fusion.Candidates(
            ids=np.array([row.id for row in rows], np.int64),
            documents=np.array([row.document_id for row in rows], np.str_),
            dense=(stored.reshape(len(rows), len(vector)) @ vector).astype(np.float64),
            lexical=np.array([words.get(row.id, 0.0) for row in rows], np.float64),
        )

    def set_query_map(self, query_map: QueryMap | None) -> None:
        """Map the questions of all assistants from now on; None leaves them as embedded.

        Personal maps go: each contains the shared one that it was trained on. A search that is
        under way keeps the map that it began with.

        Raises:
            ValueError: the map's dimension is not the embedder's.
        """
        self._dense.set_query_map(query_map)

    def set_personal_map(self, assistant_id: int, query_map: QueryMap | None) -> None:
        """Map one assistant's questions by this from now on, instead of by the shared map.

        `query_map` is the whole map, shared and personal weights added; None takes it away.

        Raises:
            ValueError: the map's dimension is not the embedder's.
        """
        self._dense.set_personal_map(assistant_id, query_map)

    def close(self) -> None:
        self._dense.close()


def _allowed_ids(
    session: Session, assistant_id: int, documents: ColumnElement[bool] | None
) -> Ids | None:
    if documents is None:
        return None
    own = select(Chunk.id).join(Document).where(Chunk.assistant_id == assistant_id, documents)
    return np.array(session.scalars(own).all(), np.int64)


def _lexical_scores(
    session: Session,
    assistant_id: int,
    question: str,
    documents: ColumnElement[bool] | None,
    text_only: bool,
) -> dict[int, float]:
    match = lexical.expression(question, text_only=text_only)
    if match is None:
        return {}
    ranking = lexical.ranking(assistant_id, match, documents).limit(CANDIDATES)
    return dict(session.execute(ranking).all())


def _rows(session: Session, assistant_id: int, ids: set[int]) -> list[Any]:
    return list(session.execute(_ROWS, {"assistant_id": assistant_id, "ids": list(ids)}))


def _hit(row: Any, score: float, candidates: fusion.Candidates, place: int) -> Hit:
    return Hit(
        chunk_id=row.public_id,
        document_id=row.document_id,
        external_id=row.external_id,
        name=row.name,
        title=row.title,
        heading=row.heading,
        page=row.page,
        position=row.position,
        text=row.text,
        score=score,
        dense=float(candidates.dense[place]),
        lexical=float(candidates.lexical[place]),
    )


def _reranked(question: str, hits: list[Hit], rerank: Reranker) -> list[Hit]:
    scores = rerank(question, [hit.text for hit in hits])
    better = [replace(hit, score=float(score)) for hit, score in zip(hits, scores, strict=True)]
    return sorted(better, key=lambda hit: -hit.score)
