"""Plans, rounds and rosters: what fits together and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from federation.adapter_spec import AdapterKind
from federation.invitation import (
    NOISE_DEVIATIONS,
    Announcement,
    Invitation,
    Stage,
    largest_sum_norm,
    round_config,
)
from federation.plan import Optimiser, OptimiserName, Timing
from federation.roster import Member, Roster, fingerprint, read_fingerprint
from federation.secagg import Active, HonestButCurious, Refusal
from generation.training_terms import GeneratorTerms
from privacy.ledger_records import ThreatModel
from tests.federation.plans import client_plan, document_plan
from tests.privacy.ledger_factory import hex_hash

PLAN = document_plan()
MEMBERS = tuple(sorted(hex_hash(f"node {i}") for i in range(10)))


def announcement(**changes: Any) -> Announcement:
    made = Announcement(PLAN.federation, PLAN.hash, 7, hex_hash("model"), hex_hash("roster"))
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "alcove-plan-2"}, "is not alcove-plan-1"),
        ({"federation": "Ward"}, "is no name"),
        ({"population": ""}, "is no name"),
        ({"coordinator": "AB"}, "hexadecimal"),
        ({"public_hash": "x"}, "hexadecimal"),
        ({"map_terms": None}, "training terms"),
        ({"generator_terms": GeneratorTerms()}, "training terms"),
        ({"adapter": replace(PLAN.adapter, kind=AdapterKind.GENERATOR)}, "training terms"),
        ({"privacy": client_plan(adapter={
            "kind": "retriever", "base_model": "m", "dimension": 8}).privacy}, "parameters"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_make_no_plan(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLAN, **changes)


def test_a_threat_model_that_cannot_be_promised_makes_no_plan() -> None:
    # Bonawitz et al. 2017, section 6: fewer than two thirds cannot stand up to an active server.
    privacy = replace(PLAN.privacy, min_survivors=6, noise_multiplier=2.0)
    assert replace(PLAN, privacy=privacy).threat_model is ThreatModel.HONEST_BUT_CURIOUS
    with pytest.raises(ValueError, match="secure aggregation: threshold 7"):
        replace(PLAN, privacy=privacy, threat_model=ThreatModel.ACTIVE)


@pytest.mark.parametrize(
    ("threat_model", "kind"),
    [(ThreatModel.HONEST_BUT_CURIOUS, HonestButCurious), (ThreatModel.ACTIVE, Active)],
)
def test_the_aggregation_is_that_of_the_threat_model(threat_model: ThreatModel, kind: type) -> None:
    plan = replace(PLAN, threat_model=threat_model)
    terms = plan.aggregation(10)
    assert isinstance(terms, kind)
    assert (terms.min_survivors, terms.colluders) == (9, 1)
    with pytest.raises(Refusal):
        plan.aggregation(8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"adaptivity": 0.0}, "adaptivity"),
        ({"beta1": 1.0}, "beta1"),
        ({"beta2": -0.1}, "beta1 and beta2"),
    ],
)
def test_an_optimiser_has_rates_that_make_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Optimiser(OptimiserName.FEDADAM, 0.1), **changes)


@pytest.mark.parametrize(
    "seconds", [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, -1, 1), (1, 1, 1, math.nan), (1, 1e9, 1, 1)]
)
def test_no_wait_is_endless_or_negative(seconds: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="must lie between"):
        Timing(*seconds)


def test_a_round_is_bound_to_plan_model_and_roster() -> None:
    made = round_config(PLAN, Invitation(announcement(), MEMBERS))
    assert made.plan_hash.hex() == PLAN.hash
    assert made.model_hash.hex() == hex_hash("model")
    assert tuple(member.hex() for member in made.roster) == MEMBERS
    assert (made.dimension, made.round_number) == (PLAN.adapter.dimension, 7)
    others = [
        Invitation(announcement(roster_hash=hex_hash("other")), MEMBERS),
        Invitation(announcement(model_hash=hex_hash("other")), MEMBERS),
        Invitation(announcement(round_number=8), MEMBERS),
        Invitation(announcement(), MEMBERS[:9]),
    ]
    assert len({made.hash, *(round_config(PLAN, other).hash for other in others)}) == 5


def test_a_round_of_another_plan_or_with_too_many_or_too_few_is_refused() -> None:
    for change in ({"plan_hash": hex_hash("other")}, {"federation": "other"}):
        with pytest.raises(ValueError, match="another plan"):
            round_config(PLAN, Invitation(announcement(**change), MEMBERS))
    eleven = tuple(sorted((*MEMBERS, hex_hash("eleventh"))))
    with pytest.raises(ValueError, match="more than the cohort"):
        round_config(PLAN, Invitation(announcement(), eleven))
    with pytest.raises(Refusal, match="8 clients"):
        round_config(PLAN, Invitation(announcement(), MEMBERS[:8]))


def test_members_are_ascending_and_different() -> None:
    for members in (MEMBERS[::-1], (MEMBERS[0], MEMBERS[0])):
        with pytest.raises(ValueError, match="ascending"):
            Invitation(announcement(), members)


@pytest.mark.parametrize("number", [-1, 2**32])
def test_round_numbers_fit_32_bits(number: int) -> None:
    with pytest.raises(ValueError, match="round_number"):
        announcement(round_number=number)


def test_different_rounds_have_different_ids() -> None:
    ids = {announcement().round_id, announcement(round_number=8).round_id}
    assert len(ids) == 2 and all(len(one) == 32 for one in ids)


def test_the_largest_honest_sum_is_all_rows_and_twelve_deviations_of_all_noise() -> None:
    privacy = PLAN.privacy
    rows = 10 * (privacy.row_cap or 0) * privacy.sensitivity
    # Independent noise of n nodes in d coordinates has norm sigma_l sqrt(n d).
    noise = NOISE_DEVIATIONS * privacy.share_sigma * math.sqrt(10 * privacy.dimension)
    assert largest_sum_norm(privacy) == math.ceil(rows + noise)


def test_only_the_last_two_stages_are_over() -> None:
    assert [stage for stage in Stage if stage.is_over] == [Stage.RELEASED, Stage.FAILED]


def test_a_roster_is_ordered_and_holds_nobody_twice() -> None:
    members = tuple(Member(f"node {i}", identity) for i, identity in enumerate(MEMBERS))
    roster = Roster("clinics", 3, members)
    assert roster.hash != replace(roster, version=4).hash
    for wrong in (members[::-1], (members[0], members[0])):
        with pytest.raises(ValueError, match="ordered by identity"):
            Roster("clinics", 3, wrong)
    with pytest.raises(ValueError, match="1 to 100"):
        Member("", MEMBERS[0])


def test_a_fingerprint_is_the_whole_key_however_it_is_spaced() -> None:
    text = fingerprint(MEMBERS[0])
    assert text.replace(" ", "") == MEMBERS[0] and len(text.split()) == 16
    for spelt in (text, text.upper(), text.replace(" ", "\n"), MEMBERS[0]):
        assert read_fingerprint(spelt) == MEMBERS[0]
    for wrong in ("", text[:-1], text + "0", text[:-1] + "g"):
        with pytest.raises(ValueError, match="64 hexadecimal"):
            read_fingerprint(wrong)
