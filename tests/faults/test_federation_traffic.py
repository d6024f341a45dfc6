"""All that nodes send to a coordinator, that it logs and that it counts, in a whole round."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from federation.adapter_spec import parameters_hash
from federation.coordinator import enrolment
from federation.participant import worker
from federation.plan import FederationPlan, Timing
from retrieval.embedding import Embedder
from storage.coordinator_tables import Participant
from storage.membership_tables import Outcome
from tests.coordinators import initial_parameters
from tests.faults.wards import answering, ward
from tests.federation.participant.plans import BASIS, PUBLIC, SIZE, make_plan
from tests.federation.participant.sites import fill, member
from tests.federation.participant.test_crashes import outcomes
from tests.network import BadNetwork, Faults

WORDS = ("qzkvoak", "qzkvash", "qzkvelm", "qzkvyew", "qzkvfir", "qzkvlarch")
NAMES = ("wjxfull", "wjxnone")


def plan(identity: str, base_model: str) -> FederationPlan:
    terms = {"noise_multiplier": 8.0, "rounds": 1, "max_participations": 1}
    return make_plan(
        base_model, coordinator=identity, privacy=terms, timing=Timing(600.0, 600.0, 2.0, 0.0),
        initial_hash=parameters_hash(initial_parameters(SIZE)),
    )  # fmt: skip


def shapes(network: BadNetwork) -> set[tuple[bytes, tuple[tuple[bytes, int], ...], int]]:
    """Method and path, the headers with the lengths of their values, and the length of the body."""
    found = set()
    for request in network.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = tuple((name, len(value)) for name, _, value in (x.partition(b":") for x in lines))
        found.add((first, headers, len(body)))
    return found


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_round_tells_nothing_of_a_nodes_data(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node with documents and one without any send the same requests, byte for byte as long."""
    monkeypatch.setattr(worker, "POLL_SECONDS", 1.0)
    made = partial(plan, base_model=embedder.identity)
    with ExitStack() as stack:
        home = tmp_path / "coordinator" / "home"
        place = stack.enter_context(ward(home, made, blobs=(BASIS, PUBLIC)))
        place.start()
        place.wait_ready()
        networks, members = [], []
        for name in NAMES:
            networks.append(stack.enter_context(BadNetwork(place.url, Faults(), seed=1)))
            members.append(stack.enter_context(member(tmp_path / name, embedder)))
            token = enrolment.issue_token(place.authority, place.plan.population).reveal()
            members[-1].service.join(networks[-1].url, token, name)
        fill(members[0].node, members[0].assistant_id, WORDS)
        with place.authority.database.read() as session:
            pending = session.scalars(select(Participant.id)).all()
        for number in pending:
            enrolment.approve(place.authority, number)
        with answering(place, 1):
            place.until(place.is_finished, "the round is over")
            for one in members:
                place.until(lambda one=one: outcomes(one) == [Outcome.FINISHED], "it took part")
            key = json.loads(place.home.address.read_bytes())["key"]
            admin = {"Authorization": f"Bearer {key}"}
            counted = httpx.get(f"{place.url}/metrics", headers=admin).raise_for_status().content
        full, empty = map(shapes, networks)
        assert full == empty
        logged = place.log.read_bytes()
        assert logged
        sent = b"".join(request for network in networks for request in network.requests)
        identities = [one.membership().identity for one in members]
    assert not re.search(b"qzkv", sent, re.IGNORECASE)
    for told in (logged, counted):
        for word in ("qzkv", *NAMES, *identities):
            assert not re.search(word.encode(), told, re.IGNORECASE), word
