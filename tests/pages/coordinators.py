"""A served coordinator with something to look at: participants, federations, rounds, versions."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.participants import Participant
from federation.enrolment import EnrolmentToken
from federation.invitation import Stage
from tests.coordinators import noisy_vector
from tests.served import alcove_json, start_coordinator

POPULATION = "clinics"
"""Protects subjects; all federations are in it."""
NODES = "households"
"""Protects nodes; has neither participants nor federations."""
RUNNING, CREATED, STOPPED = "triage", "letters", "pilot"
"""Federations by their state. The running one has released ROUNDS and waits in another round."""
ROUNDS = 3
MEMBERS = ("Harbour clinic", "Hill practice", "Mill Lane", "St Anne's", "Ward 1")
REVOKED = "Old laptop"
"""Its node was in the last released round, and dropped out of it."""
PENDING = "<script>window.hurt = 1</script>"
"""The name of a participant that waits for approval."""
LABEL = "<img src=x onerror='window.hurt = 1'>"
"""Of the token that this participant has used."""
REASON = "Replaced by triage <img src=x onerror='window.hurt = 1'>"
"""Why STOPPED was stopped."""
PATIENCE_SECONDS = 120


def plan_request(**changes: Any) -> dict[str, Any]:
    """The plan of RUNNING, as an admin would send it; rounds move on as soon as all answer."""
    return {
        "population": POPULATION,
        "federation": RUNNING,
        "mode": "document",
        "epsilon": 3.0,
        "delta": 1e-5,
        "rounds": 12,
        "cohort": 6,
        "drop_out": 0.34,
        "planned_rows": 2000,
        "sampling_rate": 0.05,
        "adapter": {
            "kind": "retriever",
            "base_model": "all-MiniLM-L6-v2@0123456789abcdef/torch-float32",
            "dimension": 32,
            "rank": 4,
        },
        "timing": {"enlist_seconds": 3600, "phase_seconds": 3600, "training_seconds": 0},
    } | changes


@dataclass
class ServedCoordinator:
    """A coordinator's process.

    Attributes:
        key, auditor_key: of an admin and of an auditor.
        admin: an HTTP client with the admin's key, for what a test prepares.
        members: the approved participants, whose rounds `play` plays.
    """

    url: str
    key: str
    auditor_key: str
    admin: httpx.Client
    members: list[Participant] = field(default_factory=list)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of the API, which must not refuse."""
        answered = self.admin.request(method, path, json=body)
        assert answered.is_success, answered.text
        return answered.json()

    def enrol(self, http: httpx.Client, population: str, name: str, label: str = "") -> Participant:
        """A participant that waits for approval; `http` is its own."""
        new = {"population": population, "label": label}
        token = EnrolmentToken.parse(self.ask("POST", "/v1/admin/tokens", new)["token"])
        participant = Participant(http, token.coordinator, noisy_vector)
        assert participant.enrol(token, name).status_code == 201
        return participant

    def id_of(self, participant: Participant) -> int:
        found: list[dict[str, Any]] = self.ask("GET", "/v1/admin/participants")["data"]
        return next(one["id"] for one in found if one["identity"] == participant.identity)

    def approve(self, participant: Participant) -> None:
        """Let it in, and open its session."""
        self.ask("POST", f"/v1/admin/participants/{self.id_of(participant)}/approve")
        participant.open_session()

    def newest_round(self, federation: str) -> dict[str, Any] | None:
        found: list[dict[str, Any]] = self.ask(
            "GET", f"/v1/admin/federations/{federation}/rounds?limit=1"
        )["data"]
        return found[0] if found else None

    def play(
        self, federation: str, *stages: str, by: Sequence[Participant] | None = None
    ) -> dict[str, Any]:
        """Participants answer until the newest round is in one of the stages, which they leave
        unanswered, so that it stays there; that round."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            newest = self.newest_round(federation)
            if newest is not None and newest["stage"] in stages:
                return newest
            for one in self.members if by is None else by:
                for asked in one.work():
                    if asked["stage"] not in stages:
                        stage = Stage(asked["stage"])
                        one.answer(asked["federation"], asked["round_id"], stage).raise_for_status()
            time.sleep(0.05)
        raise AssertionError(f"no round came to {stages}: {newest}")


@contextmanager
def empty_coordinator(folder: Path) -> Iterator[ServedCoordinator]:
    """One in a new folder below `folder`, with an admin and an auditor and nothing else; at its end
    it must have logged no error."""
    home = folder / "home"
    key = alcove_json("coordinator", "init", "--home", str(home))["key"]
    process, url = start_coordinator(home)
    try:
        with httpx.Client(base_url=url, timeout=60) as admin:
            admin.headers["Authorization"] = f"Bearer {key}"
            served = ServedCoordinator(url, key, "", admin)
            new = {"label": "auditor", "role": "auditor"}
            served.auditor_key = served.ask("POST", "/v1/admin/keys", new)["key"]
            yield served
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        log = (folder / "server.log").read_text()
        shutil.rmtree(home)
    # What a page does wrong after somebody has left it is seen nowhere else.
    assert '"level": "error"' not in log, log


@contextmanager
def served_coordinator(folder: Path) -> Iterator[ServedCoordinator]:
    """One with everything that is named above."""
    with ExitStack() as stack:
        served = stack.enter_context(empty_coordinator(folder))

        def enrol(name: str, label: str) -> Participant:
            http = stack.enter_context(httpx.Client(base_url=served.url, timeout=60))
            return served.enrol(http, POPULATION, name, label)

        _populate(served)
        served.members = [enrol(name, name) for name in MEMBERS]
        leaving = enrol(REVOKED, REVOKED)
        for one in (*served.members, leaving):
            served.approve(one)
        _run_rounds(served, leaving)
        enrol(PENDING, LABEL)
        yield served


def _populate(served: ServedCoordinator) -> None:
    limit = {"name": POPULATION, "unit": "subject", "epsilon": 5.0, "delta": 1e-5}
    served.ask("POST", "/v1/admin/populations", limit | {"plan": plan_request()})
    limit = {"name": NODES, "unit": "node", "epsilon": 8.0, "delta": 1e-4}
    served.ask("POST", "/v1/admin/populations", limit)
    pilot = plan_request(federation=STOPPED, epsilon=1.0, rounds=4)
    for request in (plan_request(), pilot):
        served.ask("POST", "/v1/admin/federations", request)


def _run_rounds(served: ServedCoordinator, leaving: Participant) -> None:
    """A failed round of STOPPED, then ROUNDS of RUNNING; `leaving` is revoked in the last."""
    served.ask("POST", f"/v1/admin/federations/{STOPPED}/start")
    served.play(STOPPED, "enlisting", by=())
    served.ask("POST", f"/v1/admin/federations/{STOPPED}/stop", {"reason": REASON})
    served.play(STOPPED, "failed", by=())
    created = plan_request(federation=CREATED, epsilon=0.8, rounds=4)
    served.ask("POST", "/v1/admin/federations", created)
    served.ask("POST", f"/v1/admin/federations/{RUNNING}/start")
    everybody = [*served.members, leaving]
    for number in range(ROUNDS):
        served.play(RUNNING, "shares", by=everybody)
        if number == ROUNDS - 1:
            served.play(RUNNING, "masked", by=everybody)
            served.ask("POST", f"/v1/admin/participants/{served.id_of(leaving)}/revoke")
            everybody.remove(leaving)
        # The next round is announced as soon as this one is over.
        served.play(RUNNING, "survivors", by=everybody)
        served.play(RUNNING, "enlisting", by=everybody)
