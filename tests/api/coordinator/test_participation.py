"""The coordinator's application: who is let in, the long poll, uploads, and what it imports."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from api.coordinator.coordinator import Coordinator
from federation.adapter_spec import blob_hash, parameters_hash
from federation.invitation import Stage
from federation.messages import MessageHeader
from storage import staff_keys
from storage.coordinator_tables import Role
from tests.coordinators import FEDERATION, Site, guests, serving, site
from tests.forked import ENVIRONMENT, ROOT


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("coordinator") / "home", count=3) as opened:
        yield opened


@pytest.fixture
def anybody(place: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=place.url) as client:
        yield client


def test_it_answers_and_says_so_to_anybody(anybody: httpx.Client) -> None:
    assert anybody.get("/health").json() == {"status": "ok"}
    assert anybody.get("/ready").json() == {"status": "ready"}
    assert anybody.get("/openapi.json").status_code == 200


def test_nobody_is_let_in_without_a_session_or_a_key(place: Site, anybody: httpx.Client) -> None:
    with place.authority.database.write() as session:
        auditor = staff_keys.create(session, "auditor", Role.AUDITOR).token
    paths = [path for path in anybody.get("/openapi.json").json()["paths"] if "{" not in path]
    closed = [
        path
        for path in paths
        if path not in ("/health", "/ready")
        and not path.endswith(("/enrolments", "/challenges", "/sessions"))
    ]
    assert closed
    participant = place.participants[0].http.headers["Authorization"]
    for path in closed:
        assert anybody.get(path).status_code == 401
        # A key does not serve as a session, nor a session as a key.
        is_participants = path.startswith("/v1/participant/")
        other = f"Bearer {auditor}" if is_participants else participant
        assert anybody.get(path, headers={"Authorization": other}).status_code == 401
    measured = anybody.get("/metrics", headers={"Authorization": f"Bearer {auditor}"})
    assert "alcove_requests_total" in measured.text
    assert place.participants[0].identity not in measured.text


def test_a_body_is_not_read_before_its_sender_is_known(place: Site) -> None:

    parts = urlsplit(place.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/participant/rounds/00/messages/masked HTTP/1.1\r\nHost: a\r\n"
            b"Content-Length: 1000000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 401")


def test_a_poll_waits_until_there_is_work(place: Site) -> None:
    if place.is_running():
        place.expire()
    node = place.participants[0]
    assert node.work() == []
    found: list[list[dict[str, object]]] = []
    poll = threading.Thread(target=lambda: found.append(node.work(wait=25)))
    poll.start()
    time.sleep(0.3)
    assert found == []
    round_id = place.open_round()
    poll.join()
    assert [(one["round_id"], one["stage"]) for one in found[0]] == [(round_id, Stage.ENLISTING)]


def test_a_poll_ends_when_something_else_is_listed(place: Site) -> None:
    if place.is_running():
        place.expire()
    http, path = place.participants[0].http, "/v1/participant/work"
    seen = http.get(path).json()["listing"]
    asked = {"wait": 0.3, "listing": seen}
    assert http.get(path, params=asked).json() == {"data": [], "listing": seen}
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(http.get, path, params={"wait": 25, "listing": seen}, timeout=60)
        time.sleep(0.3)
        assert not poll.done()
        with guests(place, 1):
            answer = poll.result().json()
            assert answer["data"] == []
            assert answer["listing"] != seen


def test_a_poll_ends_with_nothing_when_its_time_is_over(place: Site) -> None:
    if place.is_running():
        place.expire()
    assert place.participants[1].work(wait=0.3) == []
    refused = place.participants[1].http.get("/v1/participant/work", params={"wait": 1_000})
    assert refused.status_code == 400


@pytest.mark.parametrize("chunked", [False, True])
def test_a_masked_vector_has_its_one_length(place: Site, chunked: bool) -> None:
    place.open_round()
    place.play(until=Stage.MASKED)
    node, round_id = place.participants[0], place.round_id
    body = node.message(FEDERATION, round_id, Stage.MASKED)
    path = f"/v1/participant/rounds/{round_id}/messages/masked"
    folder = place.authority.home.round_vectors(round_id)
    for wrong, status in ((body[:-1], 400), (b"", 400), (body + b"\0", 413)):
        signature = MessageHeader.of(FEDERATION, round_id, Stage.MASKED, wrong).sign(node.key)
        answer = node.http.post(
            path,
            content=iter([wrong]) if chunked else wrong,
            headers={"Alcove-Signature": signature},
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, "wrong_size")
    assert not folder.exists() or list(folder.iterdir()) == []
    assert node.send(FEDERATION, round_id, Stage.MASKED, body).status_code == 202
    assert [path.read_bytes() for path in folder.iterdir()] == [body]


def test_a_vector_that_comes_again_after_its_round_leaves_nothing(place: Site) -> None:
    place.open_round()
    place.play(until=Stage.MASKED)
    node, round_id = place.participants[0], place.round_id
    body = node.message(FEDERATION, round_id, Stage.MASKED)
    place.play()
    # Its answer may have been lost, so that it is no error.
    assert node.send(FEDERATION, round_id, Stage.MASKED, body).status_code == 202
    assert list(place.authority.home.vectors.iterdir()) == []


def test_other_bodies_are_limited(place: Site) -> None:
    round_id = place.open_round()
    node = place.participants[0]
    large = bytes(2 * 2**20 + 1)
    answer = node.send(FEDERATION, round_id, Stage.ENLISTING, large)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert node.send(FEDERATION, round_id, Stage.ENLISTING, bytes(10_000)).status_code == 400


def test_what_participants_are_sent_has_the_hashes_that_it_is_named_by(place: Site) -> None:
    node = place.participants[0]
    plan = node.plan(FEDERATION)
    assert parameters_hash(node.get(f"federations/{FEDERATION}/versions/0/parameters")) == (
        plan.initial_hash
    )
    for name in (plan.adapter.basis_hash, plan.public_hash):
        assert blob_hash(node.get(f"blobs/{name}")) == name
    (listed,) = node.http.get("/v1/participant/federations").json()["data"]
    assert (listed["name"], listed["plan_hash"]) == (FEDERATION, plan.hash)
    for missing in (
        "blobs/" + "0" * 64,
        "federations/none/plan",
        "rounds/" + "0" * 32 + "/statement",
    ):
        assert node.http.get(f"/v1/participant/{missing}").status_code == 404


def test_the_coordinator_needs_neither_torch_nor_models() -> None:
    """A coordinator is a small service: it runs where the node's libraries are not installed."""
    heavy = "torch transformers faiss peft opacus sentence_transformers"
    code = (
        "import sys, api.coordinator.app\n"
        f"found = [name for name in {heavy.split()} if name in sys.modules]\n"
        "assert not found, found\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=ENVIRONMENT, cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_worker_runs_rounds_by_itself(tmp_path: Path) -> None:
    with site(tmp_path / "home", count=3) as opened:
        settings = opened.coordinator.settings
        # A second worker on the same folder, which drives.
        with serving(Coordinator(settings), drive=True):
            for stage in Stage:
                if stage.is_over:
                    break
                for node in opened.participants:
                    assert [one["stage"] for one in node.work(wait=20)] == [stage]
                    node.answer_all()
            deadline = time.monotonic() + 20
            while opened.is_running() and time.monotonic() < deadline:
                time.sleep(0.05)
        assert opened.round().stage == Stage.RELEASED
