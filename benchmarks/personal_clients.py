"""What both parts of the benchmark `personal` share: clients' examples, and rows by client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row
from benchmarks.utility import paired_interval
from federation.simulation.population import Population
from federation.simulation.scoring import Scores
from retrieval.examples import FOLDS, Example


def examples_of(population: Population, client: str) -> tuple[Example, ...]:
    """A client's training questions, by id."""
    examples = [
        example
        for node in population.nodes
        if node.group == client
        for _, own in node.subjects
        for example in own
    ]
    return tuple(sorted(examples, key=lambda example: example.example_id))


def draw(examples: Sequence[Example], size: int, seed: int) -> list[Example]:
    """`size` of them in their order. Raises ValueError if there are fewer."""
    drawn = np.random.default_rng(seed).choice(len(examples), size, replace=False)
    return [examples[place] for place in sorted(drawn)]


def fold_of(document: str) -> int:
    """The examples of one document are in one fold, as in a node."""
    return sha256(document.encode()).digest()[0] % FOLDS


@dataclass(frozen=True, slots=True)
class Compared:
    """Scores of the same questions, one for each seed where something is drawn by it.

    Attributes:
        clients: the place in `Population.scored_groups` of each client that is told of.
    """

    clients: Mapping[str, int]
    zero_shot: Scores
    shared: Sequence[Scores]
    alone: Sequence[Scores]
    both: Sequence[Scores]


def rows(title: str, metric: str, compared: Compared) -> Iterator[Row]:
    """Of each client, with the interval of what both adapters bring; then the means over clients.

    Args:
        title: what all cases begin with.
        metric: what the scores are.
    """
    zero_shot = compared.zero_shot
    places = {name: zero_shot.groups == place for name, place in compared.clients.items()}
    kinds = {
        "shared": compared.shared,
        "personal alone": compared.alone,
        "shared + personal": compared.both,
    }

    def mean(scores: Sequence[Scores], here: NDArray[np.bool_]) -> float:
        return float(np.mean([one.values[here].mean() for one in scores]))

    for name, here in places.items():
        zero = mean([zero_shot], here)
        label = f"{title}, {name} ({here.sum()} questions)"
        for kind, scores in kinds.items():
            yield Row(
                "personal", label, f"{kind} {metric}", mean(scores, here), zero, "zero-shot",
                better="higher",
            )  # fmt: skip
        low, high = paired_interval(
            Scores(zero_shot.values[here], zero_shot.groups[here]),
            [Scores(one.values[here], one.groups[here]) for one in compared.both],
        )
        yield Row("personal", label, "gain of both, 95% from", low, better="higher")
        yield Row("personal", label, "gain of both, 95% to", high, better="higher")
    label = f"{title}, mean over {len(places)} clients"
    zero = float(np.mean([mean([zero_shot], here) for here in places.values()]))
    for kind, scores in kinds.items():
        value = float(np.mean([mean(scores, here) for here in places.values()]))
        yield Row("personal", label, f"{kind} {metric}", value, zero, "zero-shot", better="higher")
