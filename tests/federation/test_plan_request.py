"""From an admin's words to a plan: defaults, calibration and refusals."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from federation.adapter_spec import blob_hash, parameters_hash
from federation.plan import OptimiserName
from federation.plan_request import PlanRequestError, passages_to_bytes, read_request, resolve
from privacy.guarantee import epsilons
from privacy.ledger_records import ThreatModel
from privacy.plan import Mode, smallest_row_cap
from retrieval.query_map import basis_from_bytes, basis_to_bytes, random_basis
from tests.federation.plans import (
    COORDINATOR,
    GENERATOR,
    RETRIEVER,
    client_plan,
    client_request,
    document_plan,
    document_request,
    resolved,
)


@pytest.mark.parametrize(
    ("request_", "target"),
    [(document_request(epsilon=4.0), 4.0), (client_request(epsilon=8.0), 8.0)],
)
def test_the_noise_is_the_least_that_keeps_epsilon(request_: dict[str, Any], target: float) -> None:
    plan = resolved(request_).plan.privacy
    assert epsilons(plan).coordinator.value <= target
    weaker = resolved(
        {**request_, "epsilon": None, "noise_multiplier": plan.noise_multiplier * 0.999}
        | {"epsilon": None}
    ).plan.privacy
    assert epsilons(weaker).coordinator.value > target


def test_what_is_left_out_gets_the_documented_default() -> None:
    plan = document_plan()
    privacy = plan.privacy
    assert (privacy.rounds, privacy.max_participations) == (20, 20)
    assert (privacy.min_survivors, privacy.colluders) == (9, 1)
    assert privacy.row_cap == smallest_row_cap(2000, 0.05)
    assert privacy.grid == pytest.approx(1 / (100 * math.sqrt(32 * 4)), rel=1e-12)
    assert privacy.delta == 1e-5
    assert plan.threat_model is ThreatModel.HONEST_BUT_CURIOUS
    assert plan.optimiser.name is OptimiserName.FEDADAM
    assert plan.map_terms is not None and plan.generator_terms is None


@given(rows=st.integers(10, 10**6))
def test_the_default_delta_is_well_below_one_over_the_units(rows: int) -> None:
    plan = document_plan(planned_rows=rows, epsilon=None, noise_multiplier=4.0)
    assert plan.privacy.delta <= min(1e-5, 1 / (10 * rows))


def test_a_client_plan_sends_updates_that_are_added() -> None:
    plan = client_plan()
    assert plan.privacy.mode is Mode.CLIENT and plan.privacy.row_cap is None
    assert plan.optimiser.name is OptimiserName.FEDAVG


def test_the_step_on_a_query_map_falls_with_the_noise_and_follows_the_clip_norm() -> None:
    """What the noise of one step adds to W is the same at every level of noise above the signal."""
    noisy, noisier = (client_plan(epsilon=None, noise_multiplier=z) for z in (40.0, 80.0))
    assert noisy.privacy.noise_to_signal > 1
    products = [p.optimiser.learning_rate * p.privacy.noise_to_signal for p in (noisy, noisier)]
    assert products[0] == pytest.approx(products[1])
    quiet, quieter = (client_plan(epsilon=None, noise_multiplier=z) for z in (2.0, 1.0))
    assert quiet.privacy.noise_to_signal < 1
    assert quiet.optimiser == quieter.optimiser
    wide = client_plan(epsilon=None, noise_multiplier=40.0, clip_norm=10.0)
    assert wide.optimiser.learning_rate == pytest.approx(10 * noisy.optimiser.learning_rate)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cohort": 10, "drop_out": 0.3}, 7),
        ({"cohort": 10, "drop_out": 0.3, "threat_model": "active"}, 7),
        ({"cohort": 10, "drop_out": 0.9, "threat_model": "active"}, 7),
        ({"cohort": 3, "threat_model": "active"}, 3),
        ({"cohort": 3}, 2),
        ({"cohort": 10, "drop_out": 0.9, "colluders": 3}, 5),
        ({"cohort": 10, "min_survivors": 4}, 4),
    ],
)
def test_survivors_follow_from_drop_out_and_threat_model(
    changes: dict[str, Any], expected: int
) -> None:
    # Bonawitz et al. 2017, section 6: against an active server t >= floor(2n/3) + 1.
    assert document_plan(**changes).privacy.min_survivors == expected


def test_a_basis_is_made_once_and_pinned_by_its_hash() -> None:
    first, again = resolved(document_request()), resolved(document_request())
    assert first.plan.hash == again.plan.hash
    basis = first.blobs[first.plan.adapter.basis_hash]
    assert basis_from_bytes(basis).shape == (32, 4)
    assert blob_hash(basis) == first.plan.adapter.basis_hash
    other = resolved(document_request(adapter={**RETRIEVER, "seed": 1}))
    assert other.plan.adapter.basis_hash != first.plan.adapter.basis_hash


def test_a_given_basis_settles_dimension_and_rank() -> None:
    data = basis_to_bytes(random_basis(48, 3, 7))
    adapter = {"kind": "retriever", "base_model": "m", "basis": base64.b64encode(data).decode()}
    made = resolved(document_request(adapter=adapter))
    assert made.plan.adapter.dimension == 48 * 3
    assert made.blobs[blob_hash(data)] == data
    with pytest.raises(PlanRequestError, match="rank is 4, and that of the basis is 3"):
        resolved(document_request(adapter={**adapter, "rank": 4}))


def test_a_generator_trains_b_of_every_module_on_orthonormal_factors() -> None:
    made = resolved(document_request(adapter=GENERATOR))
    blocks = made.plan.adapter.blocks
    assert [(b.name, b.rows, b.columns) for b in blocks] == [
        ("layers.0.q_proj", 24, 2),
        ("layers.1.q_proj", 8, 2),
    ]
    factors = load(made.blobs[made.plan.adapter.basis_hash])
    for factor in factors.values():
        assert factor.shape == (2, 16)
        np.testing.assert_allclose(factor @ factor.T, np.eye(2), atol=1e-5)
    assert made.plan.generator_terms is not None and made.plan.map_terms is None
    assert made.plan.adapter.scale == 1.0
    given_ = {**GENERATOR, "alpha": 8, "basis": base64.b64encode(save(factors)).decode()}
    assert resolved(document_request(adapter=given_)).plan.adapter.scale == 8 / 2
    slanted = save({name: factor * 2 for name, factor in factors.items()})
    given_["basis"] = base64.b64encode(slanted).decode()
    with pytest.raises(PlanRequestError, match="orthonormal"):
        resolved(document_request(adapter=given_))


def test_public_passages_are_a_file_of_json_lines() -> None:
    made = resolved(document_request(public_passages=["One.", "Zwei\nZeilen."]))
    lines = made.blobs[made.plan.public_hash].splitlines()
    assert [json.loads(line) for line in lines] == [{"text": "One."}, {"text": "Zwei\nZeilen."}]


def test_the_first_parameters_are_zeros_or_those_given() -> None:
    zeros = resolved(document_request())
    assert zeros.initial == bytes(4 * 128)
    vector = np.linspace(-1, 1, 128, dtype="<f4").tobytes()
    given_ = resolved(document_request(initial=base64.b64encode(vector).decode()))
    assert given_.initial == vector
    assert given_.plan.initial_hash == parameters_hash(vector) != zeros.plan.initial_hash


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (document_request(epsilon=None), "either epsilon"),
        (document_request(noise_multiplier=1.0), "not both"),
        (document_request(planned_rows=None), "needs planned_rows"),
        (client_request(planned_rows=10), "planned_rows belongs to the modes"),
        (document_request(row_cap=1), "would be reached too often"),
        (document_request(delta=0.1), "above 1/planned_rows"),
        (document_request(min_survivors=9, drop_out=0.1), "not both"),
        (document_request(min_survivors=2, colluders=2), "min_survivors must exceed colluders"),
        (document_request(min_survivors=2, colluders=1), "fewer than 2 honest"),
        (document_request(min_survivors=11), "only 10 nodes are invited"),
        (document_request(min_survivors=5, threat_model="active"), "threshold 7"),
        (document_request(max_participations=21), "only 20 rounds"),
        (document_request(federation="Not A Name"), "is no name"),
        (document_request(generator_terms={}), "no others"),
        (document_request(adapter={**RETRIEVER, "dimension": None}), "needs dimension"),
        (document_request(adapter={**RETRIEVER, "rank": 33}), "between 1 and 32"),
        (document_request(adapter={**RETRIEVER, "basis": "@@"}), "is not base64"),
        (document_request(adapter={**RETRIEVER, "basis": "AAAA"}), "no safetensors file"),
        (document_request(adapter={**RETRIEVER, "basis": "", "seed": 1}), "not both"),
        (document_request(adapter={**GENERATOR, "modules": []}), "needs modules"),
        (document_request(adapter={**GENERATOR, "rank": 17}), "between 1 and 16"),
        (document_request(adapter={**GENERATOR, "basis": "AAAA"}), "no safetensors file"),
        (document_request(adapter={**RETRIEVER, "alpha": 8}), "belong to a generator"),
        (document_request(adapter={**GENERATOR, "dimension": 3}), "belongs to a retriever"),
        (document_request(adapter={**RETRIEVER, "dimension": 65_536, "rank": 256}), "lower rank"),
        (document_request(initial="AAAA"), "3 bytes are not 128"),
        (document_request(public_passages=[""]), "public_passages.0"),
        (document_request(grid=10.0, noise_multiplier=0.1, epsilon=None), "finer grid"),
        (document_request(grid=1e-9), "coarser grid"),
        (document_request(cohort="many"), "cohort: "),
        (document_request(cohorts=3), "cohorts: Extra inputs"),
        (document_request(clip_norm=math.nan), "clip_norm: "),
        (document_request(map_terms={"temperature": -1}), "temperature must be a positive"),
        (document_request(timing={"phase_seconds": 0}), "phase_seconds must lie"),
        (document_request(mode="pooled"), "mode: "),
        ([], "plan: "),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_the_reason(request_: Any, message: str) -> None:
    with pytest.raises(PlanRequestError) as refused:
        resolve(read_request(request_), COORDINATOR)
    assert message in str(refused.value)


def test_every_wrong_field_has_a_line() -> None:
    with pytest.raises(PlanRequestError) as refused:
        read_request(document_request(cohort=0, delta=2.0, mode="x"))
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == [
        "mode", "delta", "cohort",
    ]  # fmt: skip


def test_a_passage_that_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(ValueError, match="canonical"):
        passages_to_bytes(("\ud800",))
