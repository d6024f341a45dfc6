"""The privacy statement: every number with what it means, every assumption in words."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from federation.plan import FederationPlan
from federation.statement import guarantees, statement
from privacy.guarantee import ADJACENCY, epsilons
from tests.federation.plans import GENERATOR, client_plan, document_plan

PLANS = [
    document_plan(),
    document_plan(mode="local"),
    client_plan(),
    document_plan(threat_model="active", adapter=GENERATOR),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.privacy.mode.value)
def test_the_numbers_are_the_core_s(plan: FederationPlan) -> None:
    core = epsilons(plan.privacy)
    for ours, theirs in zip(
        guarantees(plan.privacy), (core.coordinator, core.release, core.alone), strict=True
    ):
        assert ours.name == f"epsilon_{theirs.view.value}"
        bound = theirs.value if math.isfinite(theirs.value) else None
        assert (ours.epsilon, ours.delta, ours.rho) == (bound, theirs.delta, theirs.rho)
        assert (ours.mode, ours.unit, ours.adjacency) == (theirs.mode, theirs.unit, ADJACENCY)
        assert ours.trust == theirs.trust
        parts = (ours.delta_secagg, ours.delta_cut, ours.delta_sampler)
        assert parts == (theirs.terms.secagg, theirs.terms.cut, theirs.terms.sampler)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.privacy.mode.value)
def test_no_epsilon_stands_without_what_it_means(plan: FederationPlan) -> None:
    text = statement(plan).to_text()
    numbers = [line for line in text.splitlines() if re.search(r"epsilon_\w+ (is )?(\d|unb)", line)]
    assert len(numbers) >= 3
    for line in numbers:
        for part in ("mode ", "unit ", "adjacency zero-out", "delta ", "trust"):
            assert part in line.replace("assumes that", "trust"), line


@pytest.mark.parametrize(
    ("changes", "expected", "absent"),
    [
        (
            {},
            [
                "the unit is a subject", "asked questions are not a protected unit",
                "If the same subject sits on two nodes", "secret sampling of subjects",
                "honest-but-curious", "No node enters more than 2000 subjects",
            ],
            ["The unit is a node", "may lie"],
        ),
        (
            {"mode": "local"},
            ["every node adds the whole noise itself"],
            ["Nobody can check that from outside"],
        ),
        (
            {"mode": "client", "cohort": 100, "planned_rows": None, "sampling_rate": None},
            ["the unit is a node", "No amplification is claimed", "zCDP"],
            ["two nodes", "samples each of its subjects", "asked questions"],
        ),
        (
            {"threat_model": "active"},
            ["active coordinator, which may lie", "compared the fingerprints"],
            ["inventions of its own"],
        ),
    ],
)  # fmt: skip
def test_the_words_follow_the_plan(
    changes: dict[str, Any], expected: list[str], absent: list[str]
) -> None:
    text = statement(document_plan(**changes)).to_text()
    assert [part for part in expected if part not in text] == []
    assert [part for part in absent if part in text] == []


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.privacy.mode.value)
def test_every_plan_says_what_is_assumed_counted_and_not_covered(plan: FederationPlan) -> None:
    text = statement(plan).to_text()
    for part in (
        plan.hash,
        f"{plan.privacy.max_participations} participations",
        "charged before a sum is opened",
        "an odometer of its own",
        "Retrieval and answers",
        "Prompts, questions and logs",
        "Trying several plans on private data",
        "which nodes dropped out",
    ):
        assert part in text


def test_what_has_no_bound_is_called_unbounded() -> None:
    found = statement(document_plan(epsilon=None, noise_multiplier=0.3))
    assert found.guarantees[0].epsilon is None
    assert "epsilon_coordinator unbounded at delta" in found.to_text()
    assert "inf" not in re.findall(r"[a-z]+", found.to_text())
