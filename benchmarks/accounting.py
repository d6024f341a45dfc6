"""Keeping account of a long training and calibrating its noise, beside dp-accounting."""

from collections.abc import Iterator
from dataclasses import replace

import dp_accounting  # type: ignore[import-untyped]
import numpy as np
from dp_accounting.rdp import RdpAccountant  # type: ignore[import-untyped]

from benchmarks.report import Options, Row, seconds, versioned
from privacy.accounting import ORDERS, rdp_to_epsilon
from privacy.guarantee import calibrate_noise_multiplier, round_rdp
from privacy.plan import Mode, PrivacyPlan

ROUNDS = 1000
PEER_ROUNDS = 20
PLAN = PrivacyPlan(
    mode=Mode.DOCUMENT,
    dimension=24_576,
    clip_norm=1.0,
    grid=1 / 15_677,
    noise_multiplier=1.0,
    cohort=10,
    min_survivors=8,
    colluders=2,
    rounds=ROUNDS,
    max_participations=ROUNDS,
    delta=1e-6,
    sampling_rate=0.02,
    row_cap=1400,
    planned_rows=50_000,
)


def run(options: Options) -> Iterator[Row]:
    """Epsilon after each of 1,000 sampled rounds, and one calibration, at the same orders."""
    peer = versioned("dp-accounting")
    rounds = ROUNDS if options.full else PEER_ROUNDS
    scaled = "" if options.full else f" ({rounds} rounds, times {ROUNDS // rounds})"
    same = [PLAN] * ROUNDS
    different = [replace(PLAN, noise_multiplier=1 + i / ROUNDS) for i in range(ROUNDS)]
    for case, plans in (("one plan", same), ("a plan a round", different)):
        yield Row(
            "accounting",
            f"{ROUNDS} rounds, {case}",
            "epsilon after each round, s",
            ours=seconds(lambda p=plans: _ours(p), repeats=1),  # type: ignore[misc]
            peer=seconds(lambda p=plans: _theirs(p[:rounds]), repeats=1)  # type: ignore[misc]
            * (ROUNDS / rounds),
            peer_name=peer + scaled,
        )
    yield Row(
        "accounting",
        f"noise for epsilon 3 in {ROUNDS} rounds",
        "one calibration, s",
        ours=seconds(lambda: calibrate_noise_multiplier(PLAN, 3.0), repeats=1),
        peer=seconds(_their_calibration, repeats=1),
        peer_name=peer,
    )


def _ours(plans: list[PrivacyPlan]) -> None:
    spent = np.zeros(len(ORDERS))
    for plan in plans:
        spent += round_rdp(plan)
        rdp_to_epsilon(spent, plan.delta)


def _theirs(plans: list[PrivacyPlan]) -> None:
    accountant = RdpAccountant(orders=ORDERS)
    for plan in plans:
        accountant.compose(_event(plan.noise_multiplier))
        accountant.get_epsilon(plan.delta)


def _their_calibration() -> None:
    dp_accounting.calibrate_dp_mechanism(
        lambda: RdpAccountant(orders=ORDERS),
        lambda z: dp_accounting.SelfComposedDpEvent(_event(z), ROUNDS),
        3.0,
        PLAN.delta,
    )


def _event(noise_multiplier: float) -> dp_accounting.DpEvent:
    gaussian = dp_accounting.GaussianDpEvent(noise_multiplier)
    return dp_accounting.PoissonSampledDpEvent(PLAN.sampling_rate, gaussian)
