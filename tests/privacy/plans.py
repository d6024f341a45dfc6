"""Plans that are accepted, for tests to start from."""

from dataclasses import replace
from typing import Any

from privacy.plan import Mode, PrivacyPlan

CLIENT = PrivacyPlan(
    mode=Mode.CLIENT,
    dimension=4096,
    clip_norm=1.0,
    grid=1 / 6400,
    noise_multiplier=2.0,
    cohort=100,
    min_survivors=80,
    colluders=10,
    rounds=20,
    max_participations=5,
    delta=1e-5,
)

DOCUMENT = PrivacyPlan(
    mode=Mode.DOCUMENT,
    dimension=4096,
    clip_norm=0.5,
    grid=0.5 / 6400,
    noise_multiplier=1.0,
    cohort=10,
    min_survivors=8,
    colluders=2,
    rounds=100,
    max_participations=100,
    delta=1e-5,
    sampling_rate=0.01,
    row_cap=100,
    planned_rows=2000,
)

LOCAL = replace(DOCUMENT, mode=Mode.LOCAL)


def changed(plan: PrivacyPlan, **fields: Any) -> PrivacyPlan:
    """The plan with some fields set to what no valid plan could hold."""
    copy = replace(plan)
    for name, value in fields.items():
        object.__setattr__(copy, name, value)
    return copy
