"""Participants that hold the coordinator up or fill its disk."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from api.coordinator.participant.uploads import MOST_AT_ONCE
from benchmarks.participants import Participant
from federation.invitation import Stage
from tests.coordinators import FEDERATION, Site, site


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("coordinator") / "home", count=3) as opened:
        yield opened


def begin(
    place: Site, path: str, length: int, node: Participant | None = None
) -> http.client.HTTPConnection:
    """A request of which only the first byte of the body has come."""
    connection = http.client.HTTPConnection(urlsplit(place.url).netloc, timeout=60)
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", str(length))
    if node is not None:
        connection.putheader("Authorization", node.http.headers["Authorization"])
        connection.putheader("Alcove-Signature", "00" * 64)
    connection.endheaders(b"x")
    return connection


def count(folder: Path) -> int:
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_body_that_stops_is_refused(place: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may begin one here: no session is needed to ask for a session."""
    monkeypatch.setattr("api.slow_bodies.SILENT_SECONDS", 0.5)
    with closing(begin(place, "/v1/participant/sessions", 1_000)) as connection:
        response = connection.getresponse()
        assert response.status == 408
        assert json.loads(response.read())["error"]["code"] == "request_timeout"


def test_a_participant_has_few_unfinished_uploads(place: Site) -> None:
    round_id = place.open_round()
    place.play(until=Stage.MASKED)
    greedy, other, _ = place.participants
    body = greedy.message(FEDERATION, round_id, Stage.MASKED)
    path = f"/v1/participant/rounds/{round_id}/messages/masked"
    folder = place.authority.home.round_vectors(round_id)
    with ExitStack() as stack:
        for number in range(MOST_AT_ONCE):
            stack.enter_context(closing(begin(place, path, len(body), greedy)))
            until(lambda n=number: count(folder) == n + 1)
        refused = greedy.send(FEDERATION, round_id, Stage.MASKED, body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_uploads")
        assert count(folder) == MOST_AT_ONCE
        assert other.answer(FEDERATION, round_id, Stage.MASKED).status_code == 202
    until(lambda: count(folder) == 1)
    assert greedy.send(FEDERATION, round_id, Stage.MASKED, body).status_code == 202
