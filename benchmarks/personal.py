"""The personal query map: alone, and added to the shared one, by the number of own examples.

`--data DIR` names the folder with medquad and fairytaleqa. Clients are medquad's sites and
fairytaleqa's collections, all that have questions of the split `test`. The shared map comes from a
federation of them in mode document at epsilon 8; the personal one from a few of a client's training
questions, drawn anew for each seed, with the code of a node. MRR@10 within the client; the interval
is a paired bootstrap over its questions. `--quick` takes two seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Options, Row
from benchmarks.utility import Bench, Case, paired_interval
from federation.simulation.population import Division, Population, Unit, build
from federation.simulation.retriever import RetrievalScorer
from federation.simulation.scoring import Scores
from federation.simulation.vectors import KnownVectors
from retrieval.embedding import Vectors
from retrieval.examples import FOLDS, Example
from retrieval.personal_map import Material, train
from retrieval.query_map import QueryMap, basis_from_bytes

SEEDS = 10
QUICK_SEEDS = 2
SIZES = (20, 100, 300)


def _case(data: str, limit: int | None, **terms: object) -> Case:
    name = f"{data} by client, mode document, row page, epsilon 8"
    common = {"mode": "document", "epsilon": 8.0, "colluders": 0, "clip_norm": 0.1}
    return Case(data, name, "client", limit, Unit.SUBCLIENT, {**common, **terms}, drop=0.0)


CASES = (
    _case(
        "medquad", 900, delta=1e-6, rounds=20, sampling_rate=0.2,
        optimiser={"name": "fedavg", "learning_rate": 50.0, "beta1": 0.9},
    ),
    # 232 stories are few rows: all of them in each of fewer rounds.
    _case(
        "fairytaleqa", None, delta=1e-3, rounds=10, sampling_rate=1.0,
        optimiser={"name": "fedavg", "learning_rate": 20.0, "beta1": 0.9},
    ),
)  # fmt: skip


def run(options: Options) -> Iterator[Row]:
    """Of each client and size the four maps, then the means over clients."""
    if options.data is None:
        raise SystemExit("benchmarks personal needs --data DIR")
    seeds = range(QUICK_SEEDS if options.quick else SEEDS)
    for case in CASES:
        yield from _run(Bench(options.data), case, seeds)


@dataclass(frozen=True, slots=True)
class _Client:
    """A client's passages, training questions, and their rows among the passages."""

    name: str
    passages: Vectors
    examples: tuple[Example, ...]
    rows: dict[str, int]
    documents: dict[str, str]


def _run(bench: Bench, case: Case, seeds: Sequence[int]) -> Iterator[Row]:
    corpus, queries, _ = bench.read(case)
    population = build(
        corpus, queries, Division.read(case.clients_by), case.unit, score_by="client", split="test"
    )
    resolved = bench.plan(case, population, [])
    basis = basis_from_bytes(resolved.blobs[resolved.plan.adapter.basis_hash])
    shape = basis.shape[::-1]
    shared = [one.vector.reshape(shape) for one in bench.outcomes(case, seeds)]
    vectors = bench.vectors(population, [])
    scorer = RetrievalScorer(population, vectors)
    nothing = np.zeros(shape, np.float32)
    zero_shot = scorer(QueryMap(basis, nothing))
    with_shared = [scorer(QueryMap(basis, weights)) for weights in shared]
    documents = {passage.text: passage.subclient or passage.id for passage in corpus}
    clients = _clients(population, vectors, documents)
    for size in SIZES:
        able = [client for client in clients if len(client.examples) >= size]
        alone: list[Scores] = []
        both: list[Scores] = []
        for seed in seeds:
            print(f"{case.name}, {size} examples, seed {seed}", file=sys.stderr, flush=True)
            for start, found in ((None, alone), (shared[seed], both)):
                values = np.zeros_like(zero_shot.values)
                for client in able:
                    own = _material(client, vectors, size, seed)
                    weights = train(own, basis, start).weights
                    base = nothing if start is None else start
                    here = zero_shot.groups == population.scored_groups.index(client.name)
                    values[here] = scorer(QueryMap(basis, base + weights)).values[here]
                found.append(Scores(values, zero_shot.groups))
        yield from _rows(case, size, able, population, zero_shot, with_shared, alone, both)


def _clients(
    population: Population, vectors: KnownVectors, documents: dict[str, str]
) -> list[_Client]:
    found = []
    for name in population.scored_groups:
        texts = population.candidates[name]
        examples = [
            example
            for node in population.nodes
            if node.group == name
            for _, own in node.subjects
            for example in own
        ]
        found.append(
            _Client(
                name,
                vectors(texts),
                tuple(sorted(examples, key=lambda example: example.example_id)),
                {text: row for row, text in enumerate(texts)},
                documents,
            )
        )
    return found


def _material(client: _Client, vectors: KnownVectors, size: int, seed: int) -> Material:
    """Some of the training questions; those of one document in one fold, as in a node."""
    drawn = np.random.default_rng(seed).choice(len(client.examples), size, replace=False)
    chosen = [client.examples[place] for place in sorted(drawn)]

    def fold(example: Example) -> int:
        document = client.documents[example.positives[0]]
        return sha256(document.encode()).digest()[0] % FOLDS

    return Material(
        passages=client.passages,
        questions=vectors([one.question for one in chosen]),
        positives=tuple(np.array([client.rows[text] for text in x.positives]) for x in chosen),
        negatives=(np.array([], np.int64),) * size,
        folds=np.array([fold(one) for one in chosen]),
    )


def _rows(
    case: Case,
    size: int,
    able: Sequence[_Client],
    population: Population,
    zero_shot: Scores,
    shared: Sequence[Scores],
    alone: Sequence[Scores],
    both: Sequence[Scores],
) -> Iterator[Row]:
    names = population.scored_groups
    places = {client.name: zero_shot.groups == names.index(client.name) for client in able}
    kinds = {"shared": shared, "personal alone": alone, "shared + personal": both}

    def mean(scores: Sequence[Scores], here: NDArray[np.bool_]) -> float:
        return float(np.mean([one.values[here].mean() for one in scores]))

    title = f"{case.data}, {size} examples"
    for name, here in places.items():
        zero = mean([zero_shot], here)
        label = f"{title}, {name} ({here.sum()} questions)"
        for kind, scores in kinds.items():
            yield Row(
                "personal", label, f"{kind} mrr@10", mean(scores, here), zero, "zero-shot",
                better="higher",
            )  # fmt: skip
        low, high = paired_interval(
            Scores(zero_shot.values[here], zero_shot.groups[here]),
            [Scores(one.values[here], one.groups[here]) for one in both],
        )
        yield Row("personal", label, "gain of both, 95% from", low, better="higher")
        yield Row("personal", label, "gain of both, 95% to", high, better="higher")
    label = f"{title}, mean over {len(able)} clients"
    zero = float(np.mean([mean([zero_shot], here) for here in places.values()]))
    for kind, scores in kinds.items():
        value = float(np.mean([mean(scores, here) for here in places.values()]))
        yield Row("personal", label, f"{kind} mrr@10", value, zero, "zero-shot", better="higher")
