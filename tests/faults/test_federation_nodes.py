"""Nodes that are killed and a network that loses, doubles and delays: what is sent is sent once."""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path

import pytest

from federation.coordinator import driver, federations
from federation.plan import Timing
from tests.faults.claims import check_finished, check_log
from tests.faults.clocks import HOUR, shift
from tests.faults.killable import (
    BASIS,
    check_node,
    journalled,
    node_plan,
    nodes,
)
from tests.faults.wards import Ward, ward
from tests.federation.participant.plans import PUBLIC
from tests.network import BadNetwork, Faults

KILLS = 20
"""Random ones in each run."""
SHORTEST_SECONDS, LONGEST_SECONDS = 0.05, 1.5
TIMING = Timing(60.0, 30.0, 0.2, 0.0)
PATIENT = Timing(150.0, 150.0, 0.2, 0.0)
"""Where every node is to be in the sum: one that was killed takes a while to start."""
BLOBS = (BASIS, PUBLIC)

pytestmark = pytest.mark.faults


def run(place: Ward) -> None:
    """Serve, and have the rounds begin as soon as there are nodes."""
    place.start()
    place.wait_ready()
    federations.start(place.authority, place.plan.federation)


@pytest.mark.timeout(900)
def test_either_side_killed_at_random(tmp_path: Path) -> None:
    chosen = random.Random(1)
    plan = partial(node_plan, rounds=10, timing=TIMING)
    with ward(tmp_path / "home", plan, blobs=BLOBS) as place:
        run(place)
        with nodes(place) as made:
            for node in made:
                node.start()
            for _ in range(KILLS):
                time.sleep(chosen.uniform(SHORTEST_SECONDS, LONGEST_SECONDS))
                if chosen.random() < 0.2:
                    place.kill()
                    place.start()
                else:
                    node = chosen.choice(made)
                    node.kill()
                    node.start()
            place.until(place.is_finished, "the rounds are over")
            for node in made:
                node.kill()
                check_node(place, node)
            driver.sweep(place.authority)
            check_finished(place, journalled(made))
            check_log(place)


@pytest.mark.timeout(900)
def test_a_bad_network(tmp_path: Path) -> None:
    faults = Faults(request_lost=0.05, answer_lost=0.1, doubled=0.1, repeated=0.2, delay=0.1)
    plan = partial(node_plan, rounds=4, timing=TIMING)
    with ward(tmp_path / "home", plan, blobs=BLOBS) as place:
        run(place)
        with (
            BadNetwork(place.url, faults, seed=1) as network,
            nodes(place, url=network.url) as made,
        ):
            for node in made:
                node.start()
            place.until(place.is_finished, "the rounds are over")
            for node in made:
                node.kill()
                check_node(place, node)
            place.until(lambda: not any(place.home.vectors.iterdir()), "no copy is under way")
            check_finished(place, journalled(made))
            check_log(place)
    wanted = ("request_lost", "answer_lost", "doubled", "overtaken")
    assert min(network.happened[what] for what in wanted) > 0


@pytest.mark.timeout(600)
def test_the_disk_is_full_when_a_round_is_debited(tmp_path: Path) -> None:
    """No debit, no upload; with room again the very vector that was masked is sent."""
    plan = partial(node_plan, rounds=1, timing=PATIENT)
    with ward(tmp_path / "home", plan, blobs=BLOBS) as place:
        run(place)
        with nodes(place) as made:
            for node in made[1:]:
                node.start()
            full = made[0]
            full.start(full=True)
            place.until(lambda: full.noted("vector"), "a vector is masked")
            time.sleep(3 * LONGEST_SECONDS)
            assert full.noted("masked") == {}
            full.kill()
            assert full.debits(place.plan.hash) == ()
            full.start()
            place.until(place.is_finished, "the round is over")
            for node in made:
                node.kill()
                check_node(place, node)
            assert [len(vectors) for vectors in full.noted("vector").values()] == [1]
            check_finished(place, journalled(made))
            assert [round_.survivors for round_ in place.rounds()] == [len(made)]


@pytest.mark.timeout(600)
def test_nodes_whose_clocks_are_an_hour_off(tmp_path: Path) -> None:
    """Also one whose clock is set while it is down: no vector waits for a time of day."""
    plan = partial(node_plan, rounds=2, timing=PATIENT)
    clock = tmp_path / "clock"
    with ward(tmp_path / "home", plan, blobs=BLOBS) as place:
        run(place)
        with nodes(place) as made:
            for node, seconds in zip(made, (HOUR, -HOUR, HOUR, 0.0), strict=True):
                shift(node.root.with_suffix(".clock"), seconds)
                node.start(node.root.with_suffix(".clock"))
            turning = made[2]
            place.until(lambda: turning.noted("enlisting"), "a round has begun")
            turning.kill()
            shift(clock, -HOUR)
            turning.start(clock)
            place.until(place.is_finished, "the rounds are over")
            for node in made:
                node.kill()
                check_node(place, node)
            check_finished(place, journalled(made))
            assert [round_.survivors for round_ in place.rounds()] == [len(made)] * 2
