"""`alcove plan`: what it prints follows from the plan that it prints."""

from __future__ import annotations

import pytest

from privacy.guarantee import epsilons
from privacy.plan import PrivacyPlan
from privacy.records import from_json
from tests.cli.commands import refusal, run, run_json


def test_the_json_is_a_plan_with_what_follows_from_it() -> None:
    found = run_json("plan", "--epsilon", "4", "--cohort", "400", "--rounds", "10")
    plan = from_json(PrivacyPlan, found["plan"]["privacy"])
    assert (plan.cohort, plan.rounds, plan.dimension) == (400, 10, 1536)
    assert found["noise_to_signal"] == plan.noise_to_signal
    assert found["total"]["coordinator"]["epsilon"] == epsilons(plan).coordinator.value
    assert found["total"]["coordinator"]["epsilon"] == pytest.approx(4, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--epsilon", "3", "--mode", "document"), "--cohort"),
        (("--epsilon", "-1", "--cohort", "40"), "greater than 0"),
        (("--epsilon", "1", "--cohort", "40", "--rows", "9"), "planned_rows belongs"),
        (("--epsilon", "0.0001", "--cohort", "3"), "noise multiplier"),
    ],
)
def test_what_is_no_plan_is_refused_with_the_reason(options: tuple[str, ...], reason: str) -> None:
    assert reason in refusal(run("plan", *options))
