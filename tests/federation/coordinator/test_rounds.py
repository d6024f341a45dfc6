"""Whole rounds over HTTP, on SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from federation.adapter_spec import parameters_from_bytes
from federation.coordinator import populations, versions
from federation.invitation import Stage
from federation.optimiser import OptimiserState, step
from privacy.budget import Step
from privacy.encoding import decode
from privacy.verification import verify
from tests.coordinators import FEDERATION, POPULATION, Site, plan_for, site

STAGES = [Stage.KEYS, Stage.SHARES, Stage.MASKED, Stage.SURVIVORS, Stage.UNMASKING]


def expected_parameters(place: Site, before: int, survivors: list[int]) -> np.ndarray:
    """The optimiser's step from version `before` by the sum of what these participants encoded."""
    plan = plan_for(place.coordinator.identity)
    entered = [p.entered[place.round_id].vector for p in place.participants]
    total = np.zeros(plan.privacy.dimension, np.uint64)
    for number in survivors:
        total += entered[number]
    with place.authority.database.read() as session:
        row = versions.get(session, FEDERATION, before, whole=True)
    vector = parameters_from_bytes(row.parameters, plan.adapter)
    moments = OptimiserState.from_bytes(row.moments, plan.privacy.dimension)
    mean = decode(total.astype(np.uint32), plan.privacy)
    return step(plan.optimiser, moments, vector, mean)[0]


def test_rounds_release_the_step_of_the_exact_sum_whoever_drops_out(
    tmp_path: Path, database_url: str | None
) -> None:
    from tests.coordinators import privacy_plan

    plan = lambda identity: plan_for(identity, privacy_plan(rounds=6))
    with site(tmp_path / "home", database_url, plan=plan) as place:
        for number, stage in enumerate([None, *STAGES]):
            place.open_round()
            ended = place.play(silent=place.participants[:1], since=stage)
            assert (ended.stage, ended.reason) == ("released", None), stage
