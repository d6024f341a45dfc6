"""Answers before and after a federation: token F1 and exact match on fairytaleqa, greedy decoding.

`--data DIR` names a folder with `fairytaleqa` in it (see `alcove evaluate`). Collections are nodes,
and a subject is a section. Vectors and answers are kept, see `benchmarks.kept`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from benchmarks.generator_answers import Answers, Quiz
from benchmarks.kept import PROCESSES, kept, say, write
from benchmarks.report import Options, Row
from federation.adapter_spec import parameters_from_bytes, parameters_to_bytes
from federation.participant.base_models import generator_identity, generator_modules
from federation.plan_request import ResolvedPlan, read_request, resolve
from federation.planning import NOBODY
from federation.simulation.answers import Asked
from federation.simulation.generator import GeneratorLab, lora_of
from federation.simulation.population import Division, Population, Task, Unit, build
from federation.simulation.randomness import Randomness
from federation.simulation.simulator import Simulation
from federation.simulation.vectors import embedded
from federation.simulation.workers import Workers
from generation.adapter_files import Lora
from generation.answer_loss import bare_passage
from generation.answer_scores import exact_match, token_f1
from generation.engine import Message
from generation.prompt import build_prompt
from generation.weights import user_cache
from retrieval import labelled
from retrieval.embedding import Embedder
from retrieval.vector_cache import VectorCache
from storage.settings import PACKAGED

Vector = NDArray[np.float32]

EPSILON, DELTA = 8.0, 1e-5
CLIP_NORM = 0.25
"""Low among the norms of sections' gradients at the start (0.3 to 2.7 in `PRIVATE`)."""

SHOTS = 3
SHOT_WORDS = 100
"""Of a passage in the few-shot prompt, at most: three of them are read with every question."""

TERMS = {
    # Most sections fit; one row a pass, since a subject's row has a pass of its own.
    "max_prompt_tokens": 272,
    "max_answer_tokens": 48,
    "max_examples_per_subject": 1,
    "micro_batch": 1,
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """What is trained, and how fast.

    Attributes:
        targets: ends of the names of its modules.
        first_layer: the first layer that has such modules adapted.
        learning_rate: of FedAdam.
    """

    rank: int
    targets: tuple[str, ...]
    first_layer: int
    learning_rate: float


PLAIN = Adapter(rank=4, targets=("q_proj", "v_proj"), first_layer=0, learning_rate=0.003)
PRIVATE = Adapter(rank=1, targets=("v_proj",), first_layer=10, learning_rate=0.03)
"""Noise grows with the root of the number of parameters: 3,840 here, 92,160 without noise."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked and trained.

    Attributes:
        questions: of the split `test`.
        pooled: gradients of pooled training.
        rounds, rows: of the federation without noise; rows is the expected number of sections, and
            so of gradients, in a round.
        private_rounds, private_rows: of the federation at epsilon 8.
    """

    questions: int
    pooled: int
    rounds: int
    rows: int
    private_rounds: int
    private_rows: int


QUICK = Size(questions=8, pooled=16, rounds=2, rows=8, private_rounds=2, private_rows=8)
NORMAL = Size(questions=200, pooled=400, rounds=60, rows=8, private_rounds=10, private_rows=80)
FULL = Size(questions=500, pooled=800, rounds=120, rows=8, private_rounds=10, private_rows=400)


def run(options: Options) -> Iterator[Row]:
    """F1 and exact match of each case, beside zero-shot answers to the same questions."""
    if options.data is None:
        raise SystemExit("benchmarks generator_utility needs --data DIR")
    size = QUICK if options.quick else FULL if options.full else NORMAL
    population = fairytales(options.data / "fairytaleqa", size.questions)
    bench = Bench(population, size)
    for source, passages in bench.passages().items():
        name = f"fairytaleqa {source} questions={len(population.tasks)}"
        asked = [
            Asked(task.text, own) for task, own in zip(population.tasks, passages, strict=True)
        ]
        before = bench.score(asked, "zero-shot")
        yield from _rows(f"{name} zero-shot", before, None)
        shots = bench.shots()
        few = [Asked(one.question, one.passages, shots) for one in asked]
        yield from _rows(
            f"{name} few-shot ({SHOTS} examples)", bench.score(few, "few-shot"), before
        )
        for case, trained in (
            (f"pooled, {size.pooled} gradients", bench.pooled),
            (f"federated without noise, {size.rounds} rounds", bench.federated),
            (f"federated, epsilon {EPSILON:g}, {size.private_rounds} rounds", bench.private),
        ):
            after = bench.score(asked, case, [trained()])
            yield from _rows(f"{name} {case}", after, before)


@dataclass(frozen=True, slots=True)
class _Scores:
    """Of each question, float64, shape (q,)."""

    f1: NDArray[np.float64]
    exact: NDArray[np.float64]


def _rows(case: str, scores: _Scores, before: _Scores | None) -> Iterator[Row]:
    for metric in ("f1", "exact"):
        values = getattr(scores, metric)
        ours = float(values.mean())
        if before is None:
            yield Row("generator_utility", case, metric, ours, better="higher")
            continue
        base = getattr(before, metric)
        yield Row(
            "generator_utility", case, metric, ours, float(base.mean()), "zero-shot",
            better="higher",
        )  # fmt: skip
        low, high = bootstrap(
            (values - base,), np.mean, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        for end, value in (("low", low), ("high", high)):
            yield Row(
                "generator_utility", case, f"{metric} gain, {end} end of its 95 % interval",
                float(value), better="higher",
            )  # fmt: skip


def fairytales(folder: Path, questions: int) -> Population:
    """Collections as nodes, sections as subjects, and so many questions of the split `test`."""
    return build(
        labelled.read_corpus(folder / "corpus.jsonl.gz"),
        labelled.read_queries(folder / "queries.jsonl.gz"),
        Division.read("client"), Unit.DOCUMENT, score_by="client", split="test",
    ).with_questions(questions)  # fmt: skip


class Bench:
    """The population's shared adapters and answers, each made once."""

    def __init__(self, population: Population, size: Size) -> None:
        self.answers = Answers(PACKAGED, TERMS["max_answer_tokens"])
        self._population = population
        self._size = size
        self._identity = generator_identity(PACKAGED)

    def passages(self) -> dict[str, list[tuple[str, ...]]]:
        """Of each question the passages that it is asked with, by where they come from."""
        tasks, candidates = self._population.tasks, self._population.candidates
        embedder = Embedder()
        texts = {task.text for task in tasks}.union(*(candidates[x.group] for x in tasks))
        cache = VectorCache(user_cache() / "embeddings", embedder.identity)
        with closing(cache):
            vectors = embedded(sorted(texts), embedder, cache, say)

        def best(task: Task) -> str:
            own = candidates[task.group]
            return own[int((vectors(own) @ vectors([task.text])[0]).argmax())]

        return {
            "gold passage": [self._population.gold(task) for task in tasks],
            "retrieved passage": [(best(task),) for task in tasks],
        }

    def shots(self) -> tuple[Message, ...]:
        """Turns of training questions, as serving asks them, and of their answers."""
        examples = [
            example
            for node in self._population.nodes
            for _, own in node.subjects
            for example in own
            if len(example.positives[0].split()) <= SHOT_WORDS
        ]
        turns: list[Message] = []
        for example in sorted(examples, key=lambda example: example.example_id)[:SHOTS]:
            # Short as they are, nothing has to be cut for them to fit.
            prompt = build_prompt(
                [Message("user", example.question)], [bare_passage(example.positives[0])],
                count_tokens=lambda messages: 0, prompt_tokens=0, cites=False,
            )  # fmt: skip
            turns += [prompt.messages[-1], Message("assistant", example.answer or "")]
        return tuple(turns)

    def pooled(self) -> Lora:
        """Adam on the sections of all nodes in one place."""
        resolved = self._without_noise()
        lab = GeneratorLab(self._population, resolved, gradients=self._size.pooled)

        def train() -> Vector:
            say("pooled training", 0, self._size.pooled)
            rows = lab.make_rows()
            every = [own for node in self._population.nodes for _, own in node.subjects]
            return lab.train(rows.prepare([example for own in every for example in own]), seed=0)

        return self._adapter({"pooled": self._size.pooled}, resolved, train)

    def federated(self) -> Lora:
        """Sections as rows, clipped, with neither grid nor noise."""
        return self._trained(self._without_noise(), exact=True)

    def private(self) -> Lora:
        """Sections as rows at epsilon 8."""
        size = self._size
        resolved = self._resolved(PRIVATE, size.private_rounds, size.private_rows, EPSILON)
        privacy = resolved.plan.privacy
        print(
            f"epsilon {EPSILON:g}: d={privacy.dimension}, z={privacy.noise_multiplier:.3g},"
            f" noise-to-signal {privacy.noise_to_signal:.3g}",
            file=sys.stderr,
        )
        return self._trained(resolved, exact=False)

    def score(self, asked: Sequence[Asked], case: str, adapters: Sequence[Lora] = ()) -> _Scores:
        """Of the answers to the population's questions under these adapters."""
        (said,) = self.answers([Quiz(asked, adapters)], case)
        wanted = [task.answer or "" for task in self._population.tasks]
        pairs = list(zip(said, wanted, strict=True))
        return _Scores(
            np.array([token_f1(*pair) for pair in pairs]),
            np.array([exact_match(*pair) for pair in pairs]),
        )

    def _trained(self, resolved: ResolvedPlan, *, exact: bool) -> Lora:
        def train() -> Vector:
            plan, randomness = resolved.plan, Randomness(0)
            nodes = [node.subjects for node in self._population.nodes]
            make_rows = GeneratorLab(self._population, resolved).make_rows
            vector = parameters_from_bytes(resolved.initial, plan.adapter)
            with Workers(plan, make_rows, nodes, randomness, PROCESSES) as workers:
                simulation = Simulation(
                    resolved, workers, len(nodes), randomness, drop=0.0, exact=exact
                )
                for done in simulation.rounds():
                    vector = done.vector
                    norm = float(np.linalg.norm(vector))
                    say(f"rounds (vector's norm {norm:.3g})", done.number, plan.privacy.rounds)
            return vector

        return self._adapter({"exact": exact}, resolved, train)

    def _adapter(
        self, facts: dict[str, Any], resolved: ResolvedPlan, train: Callable[[], Vector]
    ) -> Lora:
        inputs = {**facts, "plan": resolved.plan.hash, "population": self._population.hash}
        file = kept(inputs, "f32")
        if not file.is_file():
            write(file, parameters_to_bytes(train()))
        return lora_of(resolved, parameters_from_bytes(file.read_bytes(), resolved.plan.adapter))

    def _without_noise(self) -> ResolvedPlan:
        return self._resolved(PLAIN, self._size.rounds, self._size.rows, None)

    def _resolved(
        self, adapter: Adapter, rounds: int, rows: int, epsilon: float | None
    ) -> ResolvedPlan:
        """Of mode `document`; `epsilon` None stands for a plan whose noise is left out."""
        modules = [
            asdict(module)
            for module in generator_modules(PACKAGED)
            if module.name.endswith(adapter.targets) and _layer(module.name) >= adapter.first_layer
        ]
        sections = sum(len(node.subjects) for node in self._population.nodes)
        optimiser: dict[str, Any] = {"name": "fedadam", "beta1": 0.9, "adaptivity": 1e-8}
        optimiser["learning_rate"] = adapter.learning_rate
        fields = {
            "population": "fairytaleqa",
            "federation": "fairytaleqa",
            "adapter": {
                "kind": "generator",
                "base_model": self._identity,
                "modules": modules,
                "rank": adapter.rank,
            },
            "mode": "document",
            "rounds": rounds,
            "cohort": len(self._population.nodes),
            "planned_rows": sections,
            "sampling_rate": rows / sections,
            "clip_norm": CLIP_NORM,
            "delta": DELTA,
            "optimiser": optimiser,
            "generator_terms": TERMS,
            **({"noise_multiplier": 1.0} if epsilon is None else {"epsilon": epsilon}),
        }
        return resolve(read_request(fields), NOBODY)


def _layer(module: str) -> int:
    return int(next(part for part in module.split(".") if part.isdigit()))
