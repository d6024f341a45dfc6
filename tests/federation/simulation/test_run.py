"""Plans of simulations, and outcomes that are kept."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation.plan import FederationPlan
from federation.simulation.population import Population
from federation.simulation.randomness import Randomness
from federation.simulation.results import Results, outcome_key
from federation.simulation.run import (
    FAILURE_PROBABILITY,
    Costs,
    Outcome,
    Point,
    least_survivors,
)
from federation.simulation.scoring import Scores
from tests.federation.plans import client_plan, client_request, document_plan
from tests.federation.plans import resolved as make_plan

GROUPS = np.array([0, 0, 1])


def scores(*values: float) -> Scores:
    return Scores(np.array(values), GROUPS)


OUTCOME = Outcome(
    metric="mrr@10",
    nodes=2,
    zero_shot=scores(0.1, 0.2, 0.3),
    federated=scores(0.5, 1 / 3, 1.0),
    without_noise=scores(0.5, 0.5, 1.0),
    alone=scores(0.0, 0.25, 0.2),
    pooled=scores(1.0, 1.0, 1.0),
    costs=Costs(7.9, 7.1, None, 1e-5, 0.7),
    seed=3,
    history=(Point(1, 3, 1, False, 0.3), Point(2, 3, 3, True, 0.7)),
    history_without_noise=(Point(1, 3, 1, False, None), Point(2, 3, 3, True, None)),
    vector=np.array([0.1, -2.5, 3e-8], np.float32),
)


def fails(survivors: int, cohort: int, drop: Fraction) -> Fraction:
    """Probability that fewer of a cohort survive, summed term by term."""
    return sum(
        (math.comb(cohort, k) * (1 - drop) ** k * drop ** (cohort - k) for k in range(survivors)),
        Fraction(0),
    )


@settings(max_examples=60)
@given(st.integers(2, 120), st.integers(1, 9), st.integers(0, 12))
def test_a_round_fails_as_seldom_as_promised(cohort: int, tenths: int, colluders: int) -> None:
    """The most survivors that a plan can ask for at that price, but never nobody honest."""
    drop, most = Fraction(tenths, 10), Fraction(FAILURE_PROBABILITY)
    found = least_survivors(cohort, tenths / 10, colluders)
    assert min(colluders + 2, cohort) <= found <= cohort
    if found > colluders + 2:
        assert fails(found, cohort, drop) < most
    if found < cohort:
        assert fails(found + 1, cohort, drop) >= most


def test_all_survive_where_none_drops_out() -> None:
    assert least_survivors(40, 0.0, 4) == 40


@pytest.mark.parametrize("alone", [OUTCOME.alone, None])
@pytest.mark.parametrize("costs", [OUTCOME.costs, None])
def test_an_outcome_comes_back_as_it_was(
    alone: Scores | None, costs: Costs | None, tmp_path: Path
) -> None:
    stored = replace(OUTCOME, alone=alone, costs=costs)
    results = Results(tmp_path / "new" / "folder")
    assert results.get("a") is None
    results.put("a", stored)
    found = Results(tmp_path / "new" / "folder").get("a")
    assert found is not None and results.get("b") is None
    assert found.as_json() == stored.as_json()
    for name in ("metric", "nodes", "costs", "seed", "history", "history_without_noise"):
        assert getattr(found, name) == getattr(stored, name)
    for name in ("zero_shot", "federated", "without_noise", "pooled"):
        assert getattr(found, name).values.tolist() == getattr(stored, name).values.tolist()
        assert getattr(found, name).groups.tolist() == GROUPS.tolist()
    assert (found.alone is None) == (alone is None)
    assert found.vector.dtype == np.float32 and found.vector.tolist() == stored.vector.tolist()


def test_a_later_outcome_replaces_the_earlier_and_leaves_nothing_else(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.put("a", OUTCOME)
    results.put("a", replace(OUTCOME, seed=4))
    found = results.get("a")
    assert found is not None and found.seed == 4
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


@given(where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_counts_as_none(where: float, change: int, tmp_path: Path) -> None:
    """A byte is another, or all from there on is lost; the next outcome replaces it."""
    results = Results(tmp_path)
    results.put("a", OUTCOME)
    whole = (tmp_path / "a").read_bytes()
    place = int(where * len(whole))
    other = bytes([whole[place] ^ change])
    for damaged in (whole[:place], whole[:place] + other + whole[place + 1 :]):
        (tmp_path / "a").write_bytes(damaged)
        assert results.get("a") is None
    results.put("a", OUTCOME)
    assert results.get("a") is not None


def test_what_an_outcome_follows_from_names_it() -> None:
    resolved = make_plan(client_request())
    population = Population((), {"a": ("text",)}, ())
    given: dict[str, Any] = {"private": True, "drop": 0.1, "secure": False, "seed": 0}
    changes: list[dict[str, Any]] = [
        {"private": False}, {"drop": 0.2}, {"secure": True}, {"seed": 1}
    ]  # fmt: skip
    keys = {outcome_key(population, resolved, **(given | change)) for change in [{}, *changes]}
    other = Population((), {"a": ("another text",)}, ())
    keys.add(outcome_key(other, resolved, **given))
    keys.add(outcome_key(population, make_plan(client_request(epsilon=3.0)), **given))
    assert len(keys) == 3 + len(changes)
    assert outcome_key(population, resolved, **given) in keys


def test_the_shown_line_is_json_that_rounds_scores_and_keeps_epsilons() -> None:
    """Groups of two and of one question: (mean of two + one) / 2."""
    line = json.loads(json.dumps(OUTCOME.as_json(), allow_nan=False))
    assert line == {
        "metric": "mrr@10", "clients": 2, "zero_shot": 0.225, "federated": 0.7083,
        "without_noise": 0.75, "alone": 0.1625, "pooled": 1.0, "epsilon_coordinator": 7.9,
        "epsilon_release": 7.1, "epsilon_alone": None, "delta": 1e-5, "noise_to_signal": 0.7,
        "seed": 3,
    }  # fmt: skip
    free = replace(OUTCOME, costs=None, alone=None).as_json()
    names = {"epsilon_coordinator", "epsilon_release", "epsilon_alone", "delta", "noise_to_signal"}
    assert {name for name, value in free.items() if value is None} == {*names, "alone"}
    assert free.keys() == line.keys()


@pytest.mark.parametrize("plan", [client_plan(), document_plan()], ids=["client", "document"])
def test_costs_are_within_the_epsilon_that_was_asked_for(plan: FederationPlan) -> None:
    costs = Costs.of(plan.privacy)
    assert 3.99 < costs.epsilon_coordinator <= 4.0
    assert costs.epsilon_release < costs.epsilon_coordinator
    assert costs.epsilon_alone is None or costs.epsilon_alone > costs.epsilon_coordinator


class TestRandomness:
    def test_every_name_and_seed_has_a_source_of_its_own(self) -> None:
        """Rounds and nodes of all purposes, digits that could run into each other among them."""
        names = [
            (purpose, number, node)
            for purpose in ("rounding", "noise", "sample", "batches")
            for number in (1, 11, 111)
            for node in (0, 1, 11, 111)
        ]
        keys = {Randomness(seed).key(*name) for seed in (0, 1) for name in names}
        assert len(keys) == 2 * len(names)

    def test_what_a_source_gives_is_told_by_its_name_alone(self) -> None:
        """Not by what was drawn before: processes and orders of nodes change nothing."""
        first, second = Randomness(5), Randomness(5)
        first.generator("members", 1).random(100)
        first.keystream("noise", 1, 2).words(100)
        assert first.generator("members", 2).random() == second.generator("members", 2).random()
        words = first.keystream("noise", 1, 3).words(4)
        assert words.tolist() == second.keystream("noise", 1, 3).words(4).tolist()
        coins = first.rounding("rounding", 1, 2).coins(b"row", 3)
        assert coins.tolist() == second.rounding("rounding", 1, 2).coins(b"row", 3).tolist()
