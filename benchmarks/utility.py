"""What federations bring: quality before and after, by privacy, on two public data sets.

`--data DIR` names the folder with medquad and fairytaleqa, one folder each. Every figure is a mean
over seeds; the interval is a paired bootstrap over questions, of means over clients. Outcomes are
kept in the user's cache under the plan, the data and the code, so that a run that was interrupted
goes on. `--quick` takes two seeds of each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Options, Row
from federation.plan_request import ResolvedPlan, read_request, resolve
from federation.planning import NOBODY
from federation.simulation.population import Division, Population, Unit, build
from federation.simulation.results import Results, outcome_key
from federation.simulation.retriever import RetrieverLab
from federation.simulation.run import Outcome, least_survivors, simulate
from federation.simulation.scoring import Scores
from federation.simulation.vectors import KnownVectors, embedded
from generation.weights import user_cache
from retrieval import labelled
from retrieval.embedding import Embedder
from retrieval.evaluate import evaluate
from retrieval.query_map import QueryMap, basis_from_bytes
from retrieval.vector_cache import VectorCache

SEEDS = 10
QUICK_SEEDS = 2
RESAMPLES = 2_000
HYBRID_PASSAGES = 200
RANK = 64


@dataclass(frozen=True, slots=True)
class Case:
    """One population and one plan.

    Attributes:
        terms: of the plan request, beside cohort and adapter.
        drop: probability that a node drops out of a round.
        public: so many passages, of pages of the data set that no client holds, are public.
        private: whether there is noise.
    """

    data: str
    name: str
    clients_by: str
    limit: int | None
    unit: Unit
    terms: dict[str, Any] = field(repr=False)
    drop: float = 0.1
    public: int = 0
    private: bool = True


SETS = (("medquad", "group:400", 900, 1e-4), ("fairytaleqa", "subclient", None, 1e-3))


def _client_cases() -> list[Case]:
    return [
        Case(
            data, f"{data} {by}, mode client, epsilon {epsilon:g}", by, limit, Unit.SUBCLIENT,
            {"mode": "client", "epsilon": epsilon, "delta": delta, "rounds": 10, "colluders": 0},
        )
        for data, by, limit, delta in SETS
        for epsilon in (8.0, 4.0, 2.0)
    ]  # fmt: skip


def _plain_cases() -> list[Case]:
    """More rounds, since without noise nothing is paid for them."""
    terms = {"mode": "client", "noise_multiplier": 0.5, "rounds": 20, "colluders": 0}
    return [
        Case(
            data, f"{data} {by}, without noise, 20 rounds", by, limit, Unit.SUBCLIENT, terms,
            private=False,
        )
        for data, by, limit, _ in SETS
    ]  # fmt: skip


def _document_cases() -> list[Case]:
    """Rows that know one passage only learn from public ones, those that know a page from it."""

    def case(row: str, unit: Unit, public: int, temperature: float, rate: float) -> Case:
        terms = {
            "mode": "document", "epsilon": 3.0, "delta": 1e-6, "rounds": 20, "colluders": 0,
            "sampling_rate": 0.2, "clip_norm": 0.1, "min_survivors": 9,
            "map_terms": {"temperature": temperature},
            "optimiser": {"name": "fedavg", "learning_rate": rate, "beta1": 0.9},
        }  # fmt: skip
        name = f"medquad by site, mode document, row {row}, epsilon 3"
        return Case("medquad", name, "client", 900, unit, terms, drop=0.0, public=public)

    return [
        case("passage", Unit.DOCUMENT, 2_048, 0.01, 12.5),
        case("page", Unit.SUBCLIENT, 0, 0.05, 50.0),
    ]


def run(options: Options) -> Iterator[Row]:
    """Gains over zero-shot, then hybrid retrieval before and after."""
    if options.data is None:
        raise SystemExit("benchmarks utility needs --data DIR")
    seeds = range(QUICK_SEEDS if options.quick else SEEDS)
    bench = Bench(options.data)
    for case in (*_client_cases(), *_plain_cases(), *_document_cases()):
        yield from _rows(case, bench.outcomes(case, seeds))
    for case in (_client_cases()[0], _client_cases()[3]):
        yield from _hybrid(bench, case, seeds[:QUICK_SEEDS])


class Bench:
    """Data sets and vectors, read when they are first needed."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._results = Results(user_cache() / "simulations")

    @cached_property
    def embedder(self) -> Embedder:
        return Embedder()

    def read(self, case: Case) -> tuple[list[labelled.Passage], list[labelled.Query], list[str]]:
        """Passages, questions and public passages."""
        folder = self._data / case.data
        corpus = labelled.read_corpus(folder / "corpus.jsonl.gz")
        queries = labelled.read_queries(folder / "queries.jsonl.gz")
        kept = corpus if case.limit is None else labelled.limit(corpus, case.limit)
        held = {passage.subclient for passage in kept}
        others = [passage for passage in corpus if passage.subclient not in held]
        others.sort(key=lambda passage: sha256(passage.id.encode()).digest())
        public = [passage.text for passage in others[: case.public]]
        return kept, queries, public

    def plan(self, case: Case, population: Population, public: Sequence[str]) -> ResolvedPlan:
        nodes = len(population.nodes)
        fields = {
            "population": "benchmark",
            "federation": "utility",
            "adapter": {
                "kind": "retriever",
                "base_model": self.embedder.identity,
                "dimension": self.embedder.dimension,
                "rank": RANK,
            },
            "cohort": nodes,
            "min_survivors": least_survivors(nodes, case.drop, 0),
            "public_passages": list(public),
            **case.terms,
        }
        if fields["mode"] != "client":
            fields["planned_rows"] = sum(len(node.subjects) for node in population.nodes)
        return resolve(read_request(fields), NOBODY)

    def vectors(self, population: Population, public: Sequence[str]) -> KnownVectors:
        cache = VectorCache(user_cache() / "embeddings", self.embedder.identity)
        with closing(cache):
            texts = list(dict.fromkeys([*population.texts(), *public]))
            return embedded(texts, self.embedder, cache)

    def outcomes(self, case: Case, seeds: Sequence[int]) -> list[Outcome]:
        corpus, queries, public = self.read(case)
        population = build(
            corpus, queries, Division.read(case.clients_by), case.unit,
            score_by="client", split="test",
        )  # fmt: skip
        resolved = self.plan(case, population, public)
        vectors = self.vectors(population, public)
        lab = RetrieverLab(population, vectors, resolved)
        found = []
        for seed in seeds:
            key = outcome_key(
                population, resolved,
                private=case.private, drop=case.drop, secure=False, seed=seed,
            )  # fmt: skip
            outcome = self._results.get(key)
            if outcome is None:
                print(f"{case.name}, seed {seed}", file=sys.stderr, flush=True)
                outcome = simulate(
                    population, lab, resolved, private=case.private, drop=case.drop, secure=False,
                    seed=seed, processes=os.cpu_count() or 1,
                )  # fmt: skip
                self._results.put(key, outcome)
            found.append(outcome)
        return found


def _rows(case: Case, outcomes: Sequence[Outcome]) -> Iterator[Row]:
    first = outcomes[0]
    name = f"{case.name}, {first.nodes} nodes, {len(outcomes)} seeds"
    zero = first.zero_shot.mean
    means = {
        what: float(np.mean([getattr(one, what).mean for one in outcomes]))
        for what in ("federated", "without_noise", "pooled")
    }
    for what, value in means.items():
        yield Row("utility", name, f"{what} mrr@10", value, zero, "zero-shot", better="higher")
    gain = means["federated"] - zero
    low, high = paired_interval(first.zero_shot, [one.federated for one in outcomes])
    yield Row("utility", name, "gain", gain, better="higher")
    yield Row("utility", name, "gain, 95% from", low, better="higher")
    yield Row("utility", name, "gain, 95% to", high, better="higher")
    if first.costs is not None:
        kept = gain / (means["without_noise"] - zero)
        yield Row("utility", name, "share of the gain without noise", kept, better="higher")
        yield Row("utility", name, "noise to signal", first.costs.noise_to_signal)


def paired_interval(before: Scores, after: Sequence[Scores]) -> tuple[float, float]:
    """95% of the bootstrapped mean gain: questions are drawn anew within each group.

    Each question's gain is its mean over the seeds (Efron and Tibshirani, percentile interval).
    """
    gains = np.mean([one.values for one in after], axis=0) - before.values
    chance = np.random.default_rng(0)
    by_group: list[NDArray[np.float64]] = [
        gains[before.groups == group] for group in np.unique(before.groups)
    ]
    drawn = [chance.choice(own, (RESAMPLES, len(own))).mean(axis=1) for own in by_group]
    low, high = np.quantile(np.mean(drawn, axis=0), (0.025, 0.975))
    return float(low), float(high)


def _hybrid(bench: Bench, case: Case, seeds: Sequence[int]) -> Iterator[Row]:
    """The node's own hybrid search, its weight fitted with and without the map."""
    outcomes = bench.outcomes(case, seeds)
    corpus, queries, _ = bench.read(case)
    few = labelled.limit(corpus, HYBRID_PASSAGES)
    population = build(
        corpus, queries, Division.read(case.clients_by), case.unit, score_by="client", split="test"
    )
    resolved = bench.plan(case, population, [])
    basis = basis_from_bytes(resolved.blobs[resolved.plan.adapter.basis_hash])
    cache = VectorCache(user_cache() / "embeddings", bench.embedder.identity)
    with closing(cache):
        before = evaluate(few, queries, bench.embedder, cache=cache).metrics["hybrid"].mrr
        after = [
            evaluate(
                few, queries, bench.embedder, cache=cache,
                query_map=QueryMap(basis, one.vector.reshape(basis.shape[::-1])),
            ).metrics["hybrid"].mrr
            for one in outcomes
        ]  # fmt: skip
    name = f"{case.name}, {HYBRID_PASSAGES} passages a client, {len(after)} seeds"
    yield Row(
        "utility", name, "hybrid mrr@10", float(np.mean(after)), before,
        "hybrid before", better="higher",
    )  # fmt: skip
