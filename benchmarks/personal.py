"""Personal adapters: alone, and added to the shared one, by the number of own examples.

`--data DIR` names the folder with medquad and fairytaleqa. Clients are medquad's sites and
fairytaleqa's collections, all that have questions of the split `test`. The shared map comes from a
federation of them in mode document at epsilon 8; the personal one from a few of a client's training
questions, drawn anew for each seed, with the code of a node. MRR@10 within the client; the interval
is a paired bootstrap over its questions. Then the generator, see `benchmarks.personal_generator`.
`--quick` takes two seeds of the maps, and of the generator two clients and 8 questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import personal_generator
from benchmarks.kept import kept, make
from benchmarks.personal_clients import Compared, draw, examples_of, fold_of, rows
from benchmarks.report import Options, Row
from benchmarks.utility import Bench, Case
from federation.simulation.population import Division, Population, Unit, build
from federation.simulation.retriever import RetrievalScorer
from federation.simulation.scoring import Scores
from federation.simulation.vectors import KnownVectors
from retrieval.embedding import Vectors
from retrieval.examples import Example
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
    """Of each client and size the four maps, then the means over clients; generators likewise."""
    if options.data is None:
        raise SystemExit("benchmarks personal needs --data DIR")
    seeds = range(QUICK_SEEDS if options.quick else SEEDS)
    for case in CASES:
        yield from _run(Bench(options.data), case, seeds)
    title = f"fairytaleqa answers, {personal_generator.EXAMPLES} examples"
    yield from rows(title, "f1", personal_generator.compare(options.data, quick=options.quick))


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

    def scored(places: Mapping[str, int], maps: Mapping[str, Vectors]) -> Scores:
        values = np.zeros_like(zero_shot.values)
        for name, place in places.items():
            here = zero_shot.groups == place
            values[here] = scorer(QueryMap(basis, maps[name])).values[here]
        return Scores(values, zero_shot.groups)

    for size in SIZES:
        able = [client for client in clients if len(client.examples) >= size]
        places = {client.name: population.scored_groups.index(client.name) for client in able}
        lessons = {
            (client.name, seed, start is not None): _Lesson(
                _material(client, vectors, size, seed), basis, start
            )
            for client in able
            for seed in seeds
            for start in (None, shared[seed])
        }
        learned = _trained(lessons, f"{case.data}, maps of {size} examples")
        alone = [
            scored(places, {name: learned[name, seed, False] for name in places}) for seed in seeds
        ]
        both = [
            scored(places, {name: shared[seed] + learned[name, seed, True] for name in places})
            for seed in seeds
        ]
        compared = Compared(places, zero_shot, with_shared, alone, both)
        yield from rows(f"{case.data}, {size} examples", "mrr@10", compared)


@dataclass(frozen=True, eq=False, slots=True)
class _Lesson:
    """What a map is trained on, and beside which one."""

    material: Material
    basis: Vectors
    shared: Vectors | None

    def train(self) -> bytes:
        """The weights, float32, row by row."""
        return train(self.material, self.basis, self.shared).weights.tobytes()

    def facts(self) -> dict[str, str]:
        """What the weights follow from, beside the code."""
        own = self.material
        parts: dict[str, NDArray[Any]] = {
            "passages": own.passages, "questions": own.questions, "folds": own.folds,
            "positives": np.concatenate([np.append(rows, -1) for rows in own.positives]),
            "negatives": np.concatenate([np.append(rows, -1) for rows in own.negatives]),
            "basis": self.basis, "shared": np.zeros(0) if self.shared is None else self.shared,
        }  # fmt: skip
        return {name: sha256(part.tobytes()).hexdigest() for name, part in parts.items()}


_Key = tuple[str, int, bool]
"""A client, a seed, and whether the map is beside the shared one."""


def _trained(lessons: Mapping[_Key, _Lesson], told: str) -> dict[_Key, Vectors]:
    files = {key: kept(lesson.facts(), "f32") for key, lesson in lessons.items()}
    make({files[key]: lesson.train for key, lesson in lessons.items()}, told)
    return {
        key: np.frombuffer(files[key].read_bytes(), np.float32).reshape(lesson.basis.shape[::-1])
        for key, lesson in lessons.items()
    }


def _clients(
    population: Population, vectors: KnownVectors, documents: dict[str, str]
) -> list[_Client]:
    found = []
    for name in population.scored_groups:
        texts = population.candidates[name]
        found.append(
            _Client(
                name,
                vectors(texts),
                examples_of(population, name),
                {text: row for row, text in enumerate(texts)},
                documents,
            )
        )
    return found


def _material(client: _Client, vectors: KnownVectors, size: int, seed: int) -> Material:
    """Some of the training questions; those of one document in one fold, as in a node."""
    chosen = draw(client.examples, size, seed)
    folds = [fold_of(client.documents[example.positives[0]]) for example in chosen]
    return Material(
        passages=client.passages,
        questions=vectors([one.question for one in chosen]),
        positives=tuple(np.array([client.rows[text] for text in x.positives]) for x in chosen),
        negatives=(np.array([], np.int64),) * size,
        folds=np.array(folds),
    )
