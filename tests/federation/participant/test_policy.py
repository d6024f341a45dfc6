"""Consent: each term of a plan that is weaker than the policy is named in the refusal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from federation.adapter_spec import AdapterKind
from federation.participant.consent import Consent, PolicyError
from federation.participant.identity import FederationHome, create_identity, load_identity
from federation.participant.policy import ConsentPolicy, refusals
from privacy.canonical import canonical_bytes
from privacy.guarantee import epsilons
from privacy.ledger_records import ThreatModel
from privacy.plan import Mode
from storage.membership_tables import ConsentPolicyRow
from tests.federation.participant.plans import PRIVACY, SIZE, make_plan
from tests.nodes import open_database

SPENT = epsilons(PRIVACY)
EXACT = ConsentPolicy(
    modes=(Mode.DOCUMENT,),
    largest_epsilon=SPENT.coordinator.value,
    largest_epsilon_alone=SPENT.alone.value,
    largest_delta=PRIVACY.delta,
    smallest_cohort=3,
    smallest_min_survivors=3,
    threat_models=(ThreatModel.HONEST_BUT_CURIOUS,),
    adapters=(AdapterKind.RETRIEVER,),
    largest_dimension=SIZE,
    base_models=("embedder",),
)
"""Accepts the plan with nothing to spare."""


def test_a_plan_that_meets_every_term_exactly_is_accepted() -> None:
    assert refusals(make_plan(), EXACT) == ()


@pytest.mark.parametrize(
    ("term", "stricter", "plan_says", "policy_wants"),
    [
        ("mode", {"modes": (Mode.CLIENT, Mode.LOCAL)}, "document", "client, local"),
        (
            "epsilon_coordinator",
            {"largest_epsilon": SPENT.coordinator.value * 0.999},
            f"{SPENT.coordinator.value:.6g}",
            f"{SPENT.coordinator.value * 0.999:.6g}",
        ),
        (
            "epsilon_alone",
            {"largest_epsilon_alone": SPENT.alone.value * 0.999},
            f"{SPENT.alone.value:.6g}",
            f"{SPENT.alone.value * 0.999:.6g}",
        ),
        ("delta", {"largest_delta": 1e-4}, "0.001", "0.0001"),
        ("cohort", {"smallest_cohort": 4}, "3", "4"),
        ("min_survivors", {"smallest_min_survivors": 4}, "3", "4"),
        ("threat_model", {"threat_models": (ThreatModel.ACTIVE,)}, "honest_but_curious", "active"),
        ("adapter", {"adapters": (AdapterKind.GENERATOR,)}, "retriever", "generator"),
        ("dimension", {"largest_dimension": SIZE - 1}, "768", "767"),
        ("base_model", {"base_models": ("another",)}, "embedder", "another"),
    ],
)
def test_one_term_that_is_too_weak_is_named_with_both_values(
    term: str, stricter: dict[str, Any], plan_says: str, policy_wants: str
) -> None:
    (refusal,) = refusals(make_plan(), replace(EXACT, **stricter))
    assert refusal.startswith(f"{term}: the plan says {plan_says}, the policy")
    assert refusal.endswith(policy_wants)


def test_the_default_policy_refuses_a_plan_for_three_nodes() -> None:
    terms = {refusal.partition(":")[0] for refusal in refusals(make_plan(), ConsentPolicy())}
    assert {"cohort", "min_survivors", "delta"} <= terms


def test_every_weak_term_is_named() -> None:
    weak = replace(EXACT, smallest_cohort=9, largest_dimension=1)
    assert len(refusals(make_plan(), weak)) == 2


@pytest.mark.parametrize(
    "senseless",
    [
        {"largest_epsilon": 0.0},
        {"largest_epsilon": 8.4e137},
        {"largest_epsilon_alone": float("nan")},
        {"largest_epsilon_alone": float("inf")},
        {"largest_epsilon_alone": 2.0**53},
        {"largest_delta": 1.0},
        {"smallest_cohort": 1},
        {"smallest_cohort": 2**53},
        {"smallest_min_survivors": 449036187716768206159872},
        {"largest_dimension": 2**53},
        {"lifetime_order": 2**53},
        {"smallest_min_survivors": 0},
        {"largest_dimension": 0},
        {"lifetime_order": 2, "lifetime_epsilon": 0.1},
        {"lifetime_epsilon": 1_000.0},
    ],
)
def test_a_senseless_policy_cannot_be_made(senseless: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|needs|order"):
        ConsentPolicy(**senseless)


class TestOdometer:
    def test_changing_the_policy_keeps_what_was_spent(self, tmp_path: Path) -> None:
        plan = make_plan()
        home = FederationHome(tmp_path / "federation")
        with open_database(tmp_path / "node.db") as database:
            consent = Consent(database, home)
            consent.set_policy(ConsentPolicy(lifetime_epsilon=30.0))
            assert consent.open_odometer().debit(plan.run, "r1")
            spent = consent.open_odometer().odometer.epsilon_spent()
            consent.set_policy(ConsentPolicy(lifetime_epsilon=20.0, smallest_cohort=3))
            consent.close()
            again = Consent(database, home)
            assert again.policy.smallest_cohort == 3
            assert again.odometer is not None
            assert again.odometer.odometer.epsilon_spent() == spent > 0
            assert again.odometer.odometer.limit.epsilon == 20.0
            again.close()

    def test_order_and_delta_are_fixed_once_the_odometer_is_open(self, tmp_path: Path) -> None:
        with open_database(tmp_path / "node.db") as database:
            consent = Consent(database, FederationHome(tmp_path / "federation"))
            consent.set_policy(ConsentPolicy(lifetime_order=6))
            consent.open_odometer()
            with pytest.raises(PolicyError, match="were fixed"):
                consent.set_policy(ConsentPolicy(lifetime_order=7))
            with pytest.raises(PolicyError, match="were fixed"):
                consent.set_policy(ConsentPolicy(lifetime_order=6, lifetime_delta=1e-4))
            assert consent.policy.lifetime_order == 6
            consent.close()

    def test_a_policy_from_before_a_term_was_there_has_its_safe_default(
        self, tmp_path: Path
    ) -> None:
        with open_database(tmp_path / "node.db") as database:
            consent = Consent(database, FederationHome(tmp_path / "federation"))
            consent.set_policy(ConsentPolicy(smallest_cohort=7, shares_feedback=True))
            assert consent.policy.shares_feedback is True
            with database.write() as session:
                row = session.get_one(ConsentPolicyRow, 1)
                terms = json.loads(row.policy)
                del terms["shares_feedback"]
                row.policy = canonical_bytes(terms)
            assert consent.policy == ConsentPolicy(smallest_cohort=7, shares_feedback=False)
            consent.close()

    def test_an_identity_without_an_odometer_is_refused(self, tmp_path: Path) -> None:
        home = FederationHome(tmp_path / "federation")
        with open_database(tmp_path / "node.db") as database:
            consent = Consent(database, home)
            consent.open_odometer()
            create_identity(home)
            consent.close()
            home.odometer.unlink()
            with pytest.raises(RuntimeError, match="not known any more"):
                Consent(database, home)


def test_an_identity_is_stored_for_its_owner_only(tmp_path: Path) -> None:
    home = FederationHome(tmp_path / "federation")
    home.create()
    key = create_identity(home)
    public = key.public_key().public_bytes_raw().hex()
    (path,) = home.identities.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert home.identities.stat().st_mode & 0o777 == 0o700
    assert load_identity(home, public).private_bytes_raw() == key.private_bytes_raw()
    with pytest.raises(RuntimeError, match="cannot be read"):
        load_identity(home, "00" * 32)
