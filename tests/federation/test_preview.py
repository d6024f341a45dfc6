"""What a preview says, against the core's numbers and against a real round's bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from federation.plan import FederationPlan
from federation.preview import Preview, duration, preview
from federation.traffic import traffic
from privacy.budget import Budget, Event
from privacy.guarantee import epsilons
from privacy.limits import RenyiFilter, Unit
from tests.federation.plans import client_plan, document_plan
from tests.federation.secagg.parties import Round, active, config, curious
from tests.privacy.ledger_factory import Coordinator

DIMENSION = 128


def budget_for(plan: FederationPlan, epsilon: float) -> Budget:
    return Budget([Event(0, limit=RenyiFilter.for_run(plan.run, epsilon, plan.privacy.delta))])


def warning(found: Preview, start: str) -> bool:
    return any(start in text for text in found.warnings)


def test_the_epsilons_are_the_core_s() -> None:
    plan = document_plan()
    found = preview(plan)
    assert found.total == epsilons(plan.privacy)
    once = replace(plan.privacy, rounds=1, max_participations=1)
    assert found.per_round == epsilons(once)
    assert found.per_round.coordinator.value < found.total.coordinator.value <= 4.0
    assert found.noise_to_signal == plan.privacy.noise_to_signal


@pytest.mark.parametrize("threat_model", ["honest_but_curious", "active"])
def test_the_bytes_are_those_of_real_rounds(threat_model: str) -> None:
    (up, down, sent, received), (more_up, more_down, more_sent, more_received) = (
        (*_traffic(clients, threat_model), *_exchanged(clients, threat_model)) for clients in (6, 9)
    )
    # On top of the protocol: six signatures of 128 digits and two receipts; the parameters and
    # signed JSON, in which each further member of an invitation takes 64 digits, "" and a comma.
    assert more_up - up == more_sent - sent
    assert more_down - down == more_received - received + 3 * 67
    (receipt, *_) = Coordinator("clinics").collect("0" * 32, "triage")
    assert up - sent == 6 * 128 + 2 * len(receipt.to_bytes())
    assert 4 * DIMENSION < down - received < 6_000


def _traffic(clients: int, threat_model: str) -> tuple[int, int]:
    found = traffic(document_plan(cohort=clients, threat_model=threat_model, colluders=0))
    return found.up, found.down


def _exchanged(clients: int, threat_model: str) -> tuple[int, int]:
    """Bytes that a client sends and is sent in a round that all machines play to the end."""
    plan = document_plan(cohort=clients, threat_model=threat_model, colluders=0)
    choose = active if threat_model == "active" else curious
    terms = choose(clients, plan.privacy.min_survivors)
    assert terms == plan.aggregation(clients)
    round_ = Round(config(terms, DIMENSION))
    sent, received = len(round_.parties[0].client.message), 0
    for party in round_.parties:
        round_.server.receive(party.index, party.client.message)
    for stage in range(1, 5):
        round_.server.close()
        received += len(round_.server.outbox[0])
        for index, request in round_.server.outbox.items():
            answer = round_.parties[index].answer(stage, request)
            round_.server.receive(index, answer)
            sent += len(answer) if index == 0 else 0
    return sent, received


def test_traffic_grows_with_the_parameters_and_the_cohort() -> None:
    small, large = client_plan(), client_plan(adapter=_retriever(64))
    assert traffic(large).up - traffic(small).up == 4 * (64 - 32) * 4
    assert traffic(large).down - traffic(small).down == 4 * (64 - 32) * 4
    assert traffic(client_plan(cohort=200)).down > 1.9 * traffic(client_plan()).down - 10_000


def test_a_round_is_as_long_as_its_stages() -> None:
    timing = client_plan(
        timing={"enlist_seconds": 10, "phase_seconds": 20, "training_seconds": 100}
    ).timing
    assert duration(timing).expected == 100
    # Enlisting, then training beside keys and shares, then three more phases.
    assert duration(timing).longest == 10 + 100 + 3 * 20
    assert duration(replace(timing, training_seconds=5)).longest == 10 + 2 * 20 + 3 * 20


def test_all_rounds_with_the_pauses_between_them() -> None:
    plan = client_plan(
        rounds=5,
        timing={"enlist_seconds": 1, "phase_seconds": 2, "training_seconds": 4,
                "interval_seconds": 100},
    )  # fmt: skip
    assert preview(plan).longest_total == 5 * (1 + 4 + 6) + 4 * 100


def test_a_plan_that_fits_the_budget() -> None:
    plan = document_plan()
    found = preview(plan, budget_for(plan, 8.0))
    assert found.refusal is None and found.budget is not None
    assert found.budget.committed == 0.0
    # The limit keeps its order; the plan's own epsilon is taken at the best one.
    assert found.total.coordinator.value <= found.budget.committed_after <= 8.0


def test_a_plan_that_does_not_fit_says_why() -> None:
    plan = document_plan()
    budget = budget_for(plan, 4.5)
    for event in budget.reserve(plan.run, [str(slot) for slot in range(20)]):
        budget.record(event)
    again = document_plan(federation="other")
    found = preview(again, budget)
    assert found.budget is not None and found.budget.committed > 0
    assert found.refusal is not None and "would exceed epsilon 4.5" in found.refusal
    assert found.budget.committed_after > 4.5


def test_a_limit_for_nodes_refuses_a_plan_that_protects_subjects() -> None:
    plan = document_plan()
    node_limit = RenyiFilter(Unit.NODE, 8, 8.0, 1e-5)
    found = preview(plan, Budget([Event(0, limit=node_limit)]))
    assert found.refusal is not None and "protects whole nodes" in found.refusal
    assert found.budget is not None and found.budget.committed_after == found.budget.committed


def test_a_preview_changes_no_budget() -> None:
    plan = document_plan()
    budget = budget_for(plan, 8.0)
    preview(plan, budget)
    assert budget.unsettled() == () and budget.reserve(plan.run, ["a"])[0].position == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"planned_rows": 20, "delta": 1e-3}, "noise-to-signal is"),
        ({"cohort": 3, "threat_model": "active"}, "all 3 nodes of a cohort must survive (the act"),
        ({"threat_model": "active"}, "confirmed the fingerprints"),
        ({"epsilon": None, "noise_multiplier": 0.3}, "this protects nobody"),
        ({"epsilon": 30.0}, "sits on two nodes"),
        ({"cohort": 200, "epsilon": 30.0}, "epsilon_alone is"),
    ],
)
def test_likely_mistakes_are_warned_of(changes: dict[str, Any], text: str) -> None:
    assert warning(preview(document_plan(**changes)), text)


def test_a_good_plan_has_no_warning() -> None:
    plan = client_plan(cohort=1000, epsilon=8.0, colluders=0, max_participations=1)
    quiet = [text for text in preview(plan).warnings if "epsilon_alone" not in text]
    assert quiet == []


def _retriever(dimension: int) -> dict[str, Any]:
    return {"kind": "retriever", "base_model": "tiny@0/float32", "dimension": dimension, "rank": 4}
