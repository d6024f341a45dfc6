"""Latency and throughput of search beside txtai, in process and over HTTP, on the same vectors.

Both hold the same synthetic unit vectors and short texts and return ids, scores and texts. In
process a question's vector is looked up, so that no embedding is measured; over HTTP both
servers embed the question with the same model first. Ours is exact; txtai is measured with the
same exact index, and at 100k also with its default, an approximate one. One `Embeddings` of txtai
is not to be searched by two threads at once (they share a cursor of SQLite, and the process dies
by SIGSEGV), so callers in process take turns at it as they do in `txtai.app.Application.search`.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np

from api.node.node import create
from benchmarks.ingest import WORDS
from benchmarks.report import Options, Row, versioned
from benchmarks.servers import await_ready, free_port, serve_node, serving
from retrieval import lexical
from retrieval.chunking import Chunk
from retrieval.embedding import Embedder, Vectors, packaged_folder
from retrieval.index import VectorIndex
from retrieval.search import Searcher
from retrieval.store import AssistantStore, NewDocument
from storage.database import Database
from storage.home import NodeHome
from storage.node_tables import Assistant
from storage.settings import NodeSettings

SEED = 11
SIZES = (10_000, 100_000)
CALLERS = (1, 8, 32)
SECONDS = 4.0
QUESTIONS = 500
RESULTS = 10
PER_DOCUMENT = 100
# Words as frequent as in a language (Zipf's law), so that some are in most passages, most in few.
VOCABULARY = [f"{word}{number}" for number in range(200) for word in WORDS]
FREQUENCIES = list(accumulate(1 / rank for rank in range(1, len(VOCABULARY) + 1)))
Search = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Collection:
    """Texts with unit vectors, and questions with theirs."""

    texts: list[str]
    vectors: Vectors
    questions: dict[str, Vectors]


class _LookUp:
    """Stands where the embedder would, so that both sides search with the same vectors."""

    def __init__(self, questions: dict[str, Vectors], identity: str, dimension: int) -> None:
        self._questions = questions
        self.identity = identity
        self.dimension = dimension

    def questions(self, texts: list[str]) -> Vectors:
        return np.stack([self._questions[text] for text in texts])


def run(options: Options) -> Iterator[Row]:
    """In process, then over HTTP."""
    embedder = Embedder()
    for size in SIZES[:1] if options.quick else SIZES:
        collection = _collection(size, embedder.dimension)
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder) / "home"
            key = create(NodeSettings(home=home)).token
            database = Database(NodeHome(home).database)
            store = _fill(database, home, embedder, collection)
            look_up = _LookUp(collection.questions, embedder.identity, embedder.dimension)
            searcher = Searcher(database, {1: store}, cast(Embedder, look_up))
            ours = {
                "dense": lambda q, s=searcher: s.search(1, q, k=RESULTS, mode="dense"),
                "hybrid": lambda q, s=searcher: s.search(1, q, k=RESULTS),
            }
            peers = _peers(collection, size)
            for mode, peer_name, peer in peers:
                case = f"in process n={size} {mode}"
                yield from _compare(case, ours[mode], peer, peer_name, list(collection.questions))
            searcher.close()
            store.snapshot()
            database.close()
            with serve_node(home) as url:
                # The first two are those with the exact index.
                for mode, _, peer in peers[:2]:
                    peer_folder = Path(folder) / f"txtai-{mode}"
                    peer.save(peer_folder)
                    with _txtai_server(Path(folder), peer_folder) as peer_url:
                        yield from _compare(
                            f"HTTP n={size} {mode}",
                            _ask_node(url, key, mode),
                            _ask_txtai(peer_url),
                            f"{versioned('txtai')} API, exact",
                            list(collection.questions),
                        )


def _compare(
    case: str, ours: Search, peer: Search, peer_name: str, questions: Sequence[str]
) -> Iterator[Row]:
    for callers in CALLERS:
        mine = _measure(ours, questions, callers)
        theirs = _measure(peer, questions, callers)
        for metric, better in (("p50, ms", "lower"), ("p99, ms", "lower"), ("QPS", "higher")):
            yield Row(
                "search", f"{case} callers={callers}", metric, mine[metric], theirs[metric],
                peer_name, better=cast(Any, better),
            )  # fmt: skip


def _measure(search: Search, questions: Sequence[str], callers: int) -> dict[str, float]:
    """Closed loop: each caller asks its next question when the last one is answered."""
    for question in questions[:10]:
        search(question)
    stop = time.perf_counter() + SECONDS

    def call(number: int) -> list[float]:
        taken = []
        place = number
        while (start := time.perf_counter()) < stop:
            search(questions[place % len(questions)])
            taken.append(time.perf_counter() - start)
            place += callers
        return taken

    with ThreadPoolExecutor(callers) as pool:
        begun = time.perf_counter()
        taken = [seconds for one in pool.map(call, range(callers)) for seconds in one]
        elapsed = time.perf_counter() - begun
    p50, p99 = np.percentile(taken, [50, 99]) * 1000
    return {"p50, ms": float(p50), "p99, ms": float(p99), "QPS": len(taken) / elapsed}


def _collection(size: int, dimension: int) -> Collection:
    generator = np.random.default_rng(SEED)
    chosen = random.Random(SEED)

    def unit(count: int) -> Vectors:
        drawn = generator.standard_normal((count, dimension), dtype=np.float32)
        lengths = np.linalg.norm(drawn, axis=1, keepdims=True).astype(np.float32)
        divided: Vectors = np.divide(drawn, lengths, dtype=np.float32)
        return divided

    def text(length: int) -> str:
        return " ".join(chosen.choices(VOCABULARY, cum_weights=FREQUENCIES, k=length))

    texts = [f"{text(40)} {number}" for number in range(size)]
    asked = [f"{text(5)} {number}" for number in range(QUESTIONS)]
    return Collection(texts, unit(size), dict(zip(asked, unit(QUESTIONS), strict=True)))


def _fill(
    database: Database, home: Path, embedder: Embedder, collection: Collection
) -> AssistantStore:
    database.migrate()
    with database.write() as session:
        assistant = Assistant(name="default", embedder=embedder.identity)
        session.add(assistant)
        session.flush()
        lexical.create(session, assistant.id)
    folder = NodeHome(home).indexes / str(assistant.id)
    index = VectorIndex(folder, embedder.identity, embedder.dimension, "flat")
    store = AssistantStore(database, assistant.id, index)
    for start in range(0, len(collection.texts), PER_DOCUMENT):
        end = start + PER_DOCUMENT
        chunks = tuple(
            Chunk(position, text, "", None, 0, len(text), 50)
            for position, text in enumerate(collection.texts[start:end])
        )
        new = NewDocument(str(start), str(start), "text/plain", start.to_bytes(32), 0, chunks)
        with store.changing() as change:
            change.put(new, collection.vectors[start:end])
    return store


def _peers(collection: Collection, size: int) -> list[tuple[str, str, _Txtai]]:
    """(mode, name, search) of txtai's settings that are compared with ours."""
    name = versioned("txtai")
    exact = {"components": "IDMap,Flat"}
    peers = [
        ("dense", f"{name}, exact", _Txtai(collection, faiss=exact)),
        ("hybrid", f"{name}, exact", _Txtai(collection, faiss=exact, hybrid=True)),
    ]
    if size > SIZES[0]:
        peers.append(("dense", f"{name}, its default (approximate)", _Txtai(collection)))
    return peers


class _Txtai:
    """An index of txtai's, behind a lock like that of its application."""

    def __init__(self, collection: Collection, **settings: Any) -> None:
        from txtai import Embeddings

        by_text = dict(zip(collection.texts, collection.vectors, strict=True))
        by_text.update(collection.questions)
        self.embeddings = Embeddings(
            method="external",
            transform=lambda texts: np.stack([by_text[text] for text in texts]),
            content=True,
            **settings,
        )
        self.embeddings.index(enumerate(collection.texts))
        self._turn = threading.RLock()

    def __call__(self, question: str) -> object:
        with self._turn:
            return self.embeddings.search(question, RESULTS)

    def save(self, folder: Path) -> None:
        """Save it as an index whose questions are embedded by the model that ours uses."""
        del self.embeddings.config["method"], self.embeddings.config["transform"]
        self.embeddings.config["path"] = str(packaged_folder())
        self.embeddings.save(str(folder))


def _ask_node(url: str, key: str, mode: str) -> Search:
    client = httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60,
        limits=httpx.Limits(max_connections=64),
    )  # fmt: skip
    return lambda question: client.post(
        "/v1/search", json={"query": question, "limit": RESULTS, "mode": mode}
    ).raise_for_status()


def _ask_txtai(url: str) -> Search:
    client = httpx.Client(base_url=url, timeout=60, limits=httpx.Limits(max_connections=64))
    return lambda question: client.get(
        "/search", params={"query": question, "limit": RESULTS}
    ).raise_for_status()


@contextmanager
def _txtai_server(folder: Path, index: Path) -> Iterator[str]:
    config = folder / "txtai.yml"
    config.write_text(json.dumps({"path": str(index), "embeddings": {"content": True}}))
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "txtai.api:app", "--port", str(port)]
    with serving([*command, "--log-level", "warning"], {"CONFIG": str(config)}) as process:
        yield await_ready(process, f"http://127.0.0.1:{port}", "/count")
