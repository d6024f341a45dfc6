"""The rounds of a simulated federation: who takes part, what is released, and from which seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.plan import Optimiser, OptimiserName
from federation.plan_request import ResolvedPlan
from federation.rows import MapRows
from federation.simulation.randomness import Randomness
from federation.simulation.simulator import (
    SimulatedRound,
    Simulation,
    SimulationError,
)
from federation.simulation.vectors import KnownVectors
from federation.simulation.workers import Subjects, Workers
from retrieval.examples import Example
from retrieval.training_terms import MapTerms
from tests.federation.plans import client_request, document_request, resolved

NODES, DIMENSION = 6, 32
PUBLIC = ("public one", "public two")
REQUEST: dict[str, Any] = {
    "cohort": NODES, "colluders": 0, "min_survivors": 3, "rounds": 3, "max_participations": 3,
    "epsilon": None, "noise_multiplier": 1.0, "public_passages": PUBLIC,
    "map_terms": MapTerms(temperature=0.5, max_examples_per_subject=2),
}  # fmt: skip
CLIENT = resolved(client_request(**REQUEST, optimiser=Optimiser(OptimiserName.FEDAVG, 1.0)))
DOCUMENT = resolved(
    document_request(
        **REQUEST, planned_rows=20, sampling_rate=0.6,
        optimiser=Optimiser(OptimiserName.FEDAVG, 0.5, beta1=0.5),
    )
)  # fmt: skip


def example(node: int, subject: int, number: int) -> Example:
    name = f"{node} {subject} {number}"
    return Example(
        name.encode().ljust(32), f"question {name}", None, (f"answer {name}",), (f"other {name}",)
    )


def subjects(node: int) -> Subjects:
    """Node 0 has none, node 5 has five, each with one to three examples."""
    return tuple(
        (b"%d" % subject, tuple(example(node, subject, n) for n in range(1 + subject % 3)))
        for subject in range(node)
    )


EVERY = [subjects(node) for node in range(NODES)]


def known(is_spoilt: Callable[[str], bool] = lambda text: False) -> KnownVectors:
    """A random direction for each text, and no number for one that is spoilt."""
    examples = [one for own in EVERY for _, every in own for one in every]
    texts = [text for x in examples for text in (x.question, *x.positives, *x.negatives)]
    texts += PUBLIC
    vectors = np.random.default_rng(1).normal(size=(len(texts), DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[is_spoilt(text) for text in texts]] = np.nan
    return KnownVectors(texts, vectors.astype(np.float32))


def map_rows(chosen: ResolvedPlan) -> partial[MapRows]:
    return partial(
        MapRows, chosen.plan, chosen.blobs[chosen.plan.adapter.basis_hash], PUBLIC, known()
    )


@contextmanager
def working(chosen: ResolvedPlan, processes: int = 1, seed: int = 0) -> Iterator[Workers]:
    rows = map_rows(chosen)
    with Workers(chosen.plan, rows, EVERY, Randomness(seed), processes) as workers:
        yield workers


@pytest.fixture(scope="module")
def client_workers() -> Iterator[Workers]:
    with working(CLIENT) as workers:
        yield workers


@pytest.fixture(scope="module")
def document_workers() -> Iterator[Workers]:
    with working(DOCUMENT) as workers:
        yield workers


def rounds(
    chosen: ResolvedPlan, workers: Any, seed: int = 0, drop: float = 0.2, **given: bool
) -> list[SimulatedRound]:
    randomness = Randomness(seed)
    return list(Simulation(chosen, workers, NODES, randomness, drop=drop, **given).rounds())


def last(found: list[SimulatedRound]) -> list[float]:
    return [float(number) for number in found[-1].vector]


@dataclass
class Listening:
    """Workers, and who added something in which round."""

    workers: Workers
    asked: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def total(self, number: int, vector: NDArray[np.float32], nodes: Sequence[int]) -> Any:
        self.asked[number] = tuple(nodes)
        return self.workers.total(number, vector, nodes)


def with_privacy(chosen: ResolvedPlan, **changes: Any) -> ResolvedPlan:
    plan = chosen.plan
    return replace(chosen, plan=replace(plan, privacy=replace(plan.privacy, **changes)))


class TestWhoTakesPart:
    def test_no_node_takes_part_more_often_than_it_may(self, client_workers: Workers) -> None:
        """Six nodes may take part in three of five rounds, each of which needs three of them."""
        chosen = with_privacy(CLIENT, rounds=5, max_participations=3, cohort=3)
        listening = Listening(client_workers)
        found = rounds(chosen, listening, drop=0.0)
        assert [one.number for one in found if one.released] == sorted(listening.asked)
        assert len(listening.asked) == 5
        takes = [sum(node in asked for asked in listening.asked.values()) for node in range(NODES)]
        assert max(takes) == 3
        for one in found:
            before = [asked for number, asked in listening.asked.items() if number < one.number]
            willing = [node for node in range(NODES) if sum(node in x for x in before) < 3]
            assert one.joined == 3 <= len(willing)
            if one.released:
                assert one.survivors == len(listening.asked[one.number])
                assert set(listening.asked[one.number]) <= set(willing)

    def test_a_cohort_smaller_than_the_population_is_drawn_afresh(
        self, client_workers: Workers
    ) -> None:
        listening = Listening(client_workers)
        found = rounds(with_privacy(CLIENT, cohort=4), listening, drop=0.0)
        assert [(one.joined, one.survivors) for one in found] == [(4, 4)] * 3
        assert len(set(listening.asked.values())) > 1

    def test_too_few_survivors_release_nothing_and_the_round_is_tried_again(
        self, client_workers: Workers
    ) -> None:
        listening = Listening(client_workers)
        found = rounds(CLIENT, listening, drop=0.4, seed=1)
        assert [one.number for one in found] == list(range(1, len(found) + 1))
        assert sum(one.released for one in found) == 3 < len(found)
        before = np.zeros(CLIENT.plan.adapter.dimension, np.float32)
        for one in found:
            assert one.released == (one.survivors >= 3) == (one.number in listening.asked)
            assert np.array_equal(one.vector, before) != one.released
            before = one.vector

    def test_more_survivors_than_there_are_nodes_are_no_plan(self, client_workers: Workers) -> None:
        with pytest.raises(SimulationError, match=r"asks for 7 survivors .* there are 6 nodes"):
            rounds(with_privacy(CLIENT, cohort=8, min_survivors=7), client_workers)

    def test_too_few_participations_are_refused_before_any_training(
        self, client_workers: Workers
    ) -> None:
        """Three rounds of each of the six, and four rounds: nobody is left for the fourth."""
        listening = Listening(client_workers)
        chosen = with_privacy(CLIENT, rounds=4, max_participations=3)
        with pytest.raises(SimulationError, match=r"after 3 of 4 rounds only 0 nodes may take"):
            rounds(chosen, listening, drop=0.0)
        assert listening.asked == {}

    def test_rounds_that_fail_too_often_are_refused_before_any_training(
        self, client_workers: Workers
    ) -> None:
        listening = Listening(client_workers)
        chosen = with_privacy(CLIENT, min_survivors=6, rounds=100, max_participations=100)
        with pytest.raises(SimulationError, match="plan for more drop-outs"):
            rounds(chosen, listening, drop=0.9)
        assert listening.asked == {}

    def test_a_round_that_failed_has_cost_its_survivors_a_participation(
        self, client_workers: Workers
    ) -> None:
        """As `privacy.budget.Odometer`, which refunds nothing: fewer are invited again."""
        chosen = with_privacy(CLIENT, rounds=1, max_participations=1)
        again = 0
        for seed in range(30):
            try:
                found = rounds(chosen, client_workers, seed=seed, drop=0.6)
            except SimulationError:
                continue
            sent = [one.survivors for one in found]
            joined = [one.joined for one in found]
            assert joined == [NODES - sum(sent[:place]) for place in range(len(found))]
            again += joined[-1] < NODES
        assert again > 0

    def test_a_step_out_of_range_ends_it(self, client_workers: Workers) -> None:
        plan = replace(CLIENT.plan, optimiser=Optimiser(OptimiserName.FEDAVG, 1e200))
        with (
            np.errstate(over="ignore"),
            pytest.raises(SimulationError, match="round 1: the optimiser's step leaves"),
        ):
            rounds(replace(CLIENT, plan=plan), client_workers)


class TestWhatIsReleased:
    @pytest.mark.parametrize("chosen", [CLIENT, DOCUMENT], ids=["client", "document"])
    def test_the_seed_decides_whatever_the_number_of_processes(
        self, chosen: ResolvedPlan, client_workers: Workers, document_workers: Workers
    ) -> None:
        alone = client_workers if chosen is CLIENT else document_workers
        ours = rounds(chosen, alone)
        assert last(rounds(chosen, alone)) == last(ours)
        with working(chosen, processes=3) as workers:
            assert last(rounds(chosen, workers)) == last(ours)
        assert last(rounds(chosen, alone, seed=1)) != last(ours)

    def test_the_seed_decides_the_noise_too(self, client_workers: Workers) -> None:
        """One round of all nodes: only what they draw can differ."""
        chosen = with_privacy(CLIENT, rounds=1, max_participations=1)
        ours = rounds(chosen, client_workers, drop=0.0)
        with working(CLIENT, seed=1) as workers:
            assert last(rounds(chosen, workers, drop=0.0)) != last(ours)

    @pytest.mark.parametrize("chosen", [CLIENT, DOCUMENT], ids=["client", "document"])
    def test_secure_aggregation_changes_nothing(
        self, chosen: ResolvedPlan, client_workers: Workers, document_workers: Workers
    ) -> None:
        workers = client_workers if chosen is CLIENT else document_workers
        plain = rounds(chosen, workers)
        secure = rounds(chosen, workers, secure=True)
        assert any(one.survivors < one.joined for one in secure)
        for one, other in zip(plain, secure, strict=True):
            assert (one.number, one.survivors) == (other.number, other.survivors)
            assert np.array_equal(one.vector, other.vector)

    def test_without_privacy_a_node_adds_its_clipped_update(self, client_workers: Workers) -> None:
        """FedAvg of rate 1: each round adds the clipped updates' sum over the cohort."""
        found = rounds(CLIENT, client_workers, drop=0.0, exact=True)
        make = map_rows(CLIENT)()
        vector = np.zeros(CLIENT.plan.adapter.dimension)
        for one in found:
            total = np.zeros_like(vector)
            for own in EVERY:
                examples = [x for _, every in own for x in make.prepare(every)]
                row = make.of_node(examples, vector.astype(np.float32), 0)
                total += row / max(1.0, float(np.linalg.norm(row)))
            vector = vector + total / NODES
            assert np.linalg.norm(one.vector) > 0.1
            np.testing.assert_allclose(one.vector, vector, atol=1e-6)

    def test_without_privacy_subjects_add_their_clipped_gradients(self) -> None:
        """All are sampled; momentum 1/2 and rate 1/2 on the negated sum over the planned rows."""
        chosen = resolved(
            document_request(
                **REQUEST, planned_rows=20, sampling_rate=1.0, clip_norm=0.5,
                optimiser=Optimiser(OptimiserName.FEDAVG, 0.5, beta1=0.5),
            )
        )  # fmt: skip
        make = map_rows(chosen)()
        with working(chosen) as workers:
            found = rounds(chosen, workers, drop=0.0, exact=True)
        vector = np.zeros(chosen.plan.adapter.dimension)
        moment, norms = np.zeros_like(vector), []
        for one in found:
            total = np.zeros_like(vector)
            for own in EVERY:
                every = [(name, make.prepare(examples)) for name, examples in own]
                for _, row in make.of_subjects(every, vector.astype(np.float32)):
                    norms.append(float(np.linalg.norm(row)))
                    total += row * min(1.0, 0.5 / norms[-1])
            moment = moment / 2 - total / 20 / 2
            vector = vector + moment / 2
            assert np.linalg.norm(one.vector) > 0.01
            np.testing.assert_allclose(one.vector, vector, atol=1e-6)
        # Some are clipped and some are not.
        assert min(norms) < 0.5 < max(norms)

    def test_a_row_that_is_not_finite_counts_as_zero(self) -> None:
        """In an encoding it is the zero row, and so it is without grid and noise."""
        spoilt, silent = known(lambda text: text.startswith("question 3 ")), list(EVERY)
        silent[3] = ()
        found = []
        for nodes, vectors in ((EVERY, spoilt), (silent, known())):
            basis = CLIENT.blobs[CLIENT.plan.adapter.basis_hash]
            make_rows = partial(MapRows, CLIENT.plan, basis, PUBLIC, vectors)
            with Workers(CLIENT.plan, make_rows, nodes, Randomness(0), 1) as workers:
                found.append(last(rounds(CLIENT, workers, exact=True)))
        assert found[0] == found[1]
        assert np.isfinite(found[0]).all() and any(found[0])

    def test_noise_is_that_of_the_survivors_shares(self, client_workers: Workers) -> None:
        """The first round's difference from that without privacy, whose survivors are the same."""
        noisy = rounds(CLIENT, client_workers, seed=2)[0]
        exact = rounds(CLIENT, client_workers, seed=2, exact=True)[0]
        assert noisy.survivors == exact.survivors and noisy.released
        privacy = CLIENT.plan.privacy
        spread = privacy.share_sigma * privacy.grid * np.sqrt(noisy.survivors) / privacy.divisor
        difference = (noisy.vector - exact.vector) / spread
        # Five standard deviations of the mean and of the mean square of d normal numbers.
        count = len(difference)
        assert abs(float(difference.mean())) < 5 / np.sqrt(count)
        assert abs(float((difference**2).mean()) - 1) < 5 * np.sqrt(2 / count)
