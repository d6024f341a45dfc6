"""How well questions find their passages: dense, lexical and both, on labelled data sets.

`--data DIR` names a folder with one folder for each set (see `alcove evaluate`).
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.report import Options, Row
from generation.weights import user_cache
from retrieval import labelled
from retrieval.embedding import Embedder
from retrieval.evaluate import evaluate
from retrieval.vector_cache import VectorCache

PASSAGES_PER_CLIENT = 200
QUICK_PASSAGES_PER_CLIENT = 100


def run(options: Options) -> Iterator[Row]:
    """Each mode's metrics; the peer of the hybrid is the better of dense and lexical."""
    if options.data is None:
        raise SystemExit("benchmarks retrieval needs --data DIR")
    embedder = Embedder()
    cache = VectorCache(user_cache() / "embeddings", embedder.identity)
    most = QUICK_PASSAGES_PER_CLIENT if options.quick else PASSAGES_PER_CLIENT
    for folder in sorted(path for path in options.data.iterdir() if path.is_dir()):
        corpus = labelled.limit(labelled.read_corpus(folder / "corpus.jsonl.gz"), most)
        queries = labelled.read_queries(folder / "queries.jsonl.gz")
        found = evaluate(corpus, queries, embedder, cache=cache)
        case = f"{folder.name} passages={len(corpus)} questions={found.queries}"
        values = {mode: metrics.as_json() for mode, metrics in found.metrics.items()}
        for metric in next(iter(values.values())):
            single = {mode: values[mode][metric] for mode in ("dense", "lexical")}
            for mode, value in single.items():
                yield Row("retrieval", case, f"{mode} {metric}", value, better="higher")
            best = max(single, key=lambda mode: single[mode])
            for mode in ("hybrid", "hybrid_default"):
                yield Row(
                    "retrieval", case, f"{mode} {metric}", values[mode][metric],
                    single[best], f"our {best} alone", better="higher",
                )  # fmt: skip
