"""What a node answers while it is starting, waiting for its database, or full; and what an upload's
202 waits for."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.node.node import Node
from retrieval.library import Library
from retrieval.parse_worker import ParseWorker
from tests.api.here import Here, serving_here, silent_upstream, until
from tests.nodes import files_holding
from tests.served import wait

MOST_WAITING = 1_000


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    home = tmp_path_factory.mktemp("node") / "home"
    with (
        silent_upstream() as upstream,
        serving_here(home, max_pending_bytes=MOST_WAITING, **upstream.settings) as opened,
    ):
        yield opened


@pytest.fixture
def owner(here: Here) -> Iterator[httpx.Client]:
    with here.client() as client:
        yield client


def send(owner: httpx.Client, content: bytes) -> httpx.Response:
    files = [("file", ("a.txt", content))]
    return owner.post("/v1/assistants/default/documents", files=files)


def test_one_that_is_starting_says_when_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_load = threading.Event()
    load = Node.load

    def late(node: Node, **given: Any) -> Any:
        may_load.wait()
        return load(node, **given)

    monkeypatch.setattr(Node, "load", late)
    with (
        silent_upstream() as upstream,
        serving_here(tmp_path / "home", ready=False, **upstream.settings) as here,
        here.client() as owner,
    ):
        try:
            until(lambda: _is_up(owner))
            ready = owner.get("/ready")
            assert (ready.status_code, ready.json()) == (503, {"status": "starting"})
            search = owner.post("/v1/search", json={"query": "x"})
            assert (search.status_code, search.json()["error"]["code"]) == (503, "starting")
            assert int(ready.headers["Retry-After"]) > 0
            assert int(search.headers["Retry-After"]) > 0
        finally:
            may_load.set()
        until(lambda: owner.get("/ready").status_code == 200)
        assert owner.post("/v1/search", json={"query": "x"}).status_code == 200


def _is_up(owner: httpx.Client) -> bool:
    try:
        return owner.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def test_an_assistant_that_is_being_deleted_is_there_or_unknown(
    here: Here, owner: httpx.Client
) -> None:
    assert owner.post("/v1/assistants", json={"name": "doomed"}).status_code == 201
    assert here.node.models is not None
    library = here.node.models.library
    (doomed,) = library._stores.keys() - {1}
    question = {"model": "doomed", "messages": [{"role": "user", "content": "Where?"}]}
    with ThreadPoolExecutor() as pool:
        # As while the database is rewritten.
        with here.node.database.write():
            deletion = pool.submit(library.delete_assistant, doomed)
            until(lambda: doomed not in library._stores)
            answers = [
                owner.get("/v1/assistants"),
                owner.get("/v1/assistants/doomed"),
                owner.post("/v1/search", json={"assistant": "doomed", "query": "Where?"}),
                owner.post("/v1/chat/completions", json=question),
            ]
        deletion.result()
    assert [answer.status_code for answer in answers] == [200, 200, 404, 404]
    assert {one.json()["error"]["code"] for one in answers[2:]} == {"model_not_found"}
    assert owner.get("/v1/assistants/doomed").status_code == 404


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No file is read before this is set."""
    released = threading.Event()
    parse = ParseWorker.parse

    def stall(worker: ParseWorker, *given: Any) -> Any:
        released.wait()
        return parse(worker, *given)

    monkeypatch.setattr(ParseWorker, "parse", stall)
    yield released
    released.set()


def test_uploads_beyond_what_may_wait_are_turned_away(
    owner: httpx.Client, reading: threading.Event
) -> None:
    accepted = send(owner, b"a " * 400)
    assert accepted.status_code == 202
    refused = send(owner, b"b " * 400)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_much_waiting")
    assert int(refused.headers["Retry-After"]) > 0
    reading.set()
    assert wait(owner, accepted.json()["id"])["state"] == "done"
    accepted = send(owner, b"b " * 400)
    assert accepted.status_code == 202
    wait(owner, accepted.json()["id"])


def test_an_upload_of_the_same_bytes_that_waits_goes_with_their_document(
    here: Here, owner: httpx.Client, reading: threading.Event
) -> None:
    reading.set()
    first = wait(owner, send(owner, b"The same bytes.").json()["id"])
    reading.clear()
    jobs = [send(owner, content).json()["id"] for content in (b"Others.", b"The same bytes.")]
    path = f"/v1/assistants/default/documents/{first['items'][0]['document_id']}"
    erased = owner.delete(path)
    assert (erased.status_code, erased.json()["state"]) == (200, "done")
    assert not files_holding(here.node.home.root, [b"The same bytes."])
    reading.set()
    items = [wait(owner, job_id)["items"][0] for job_id in jobs]
    assert [item["state"] for item in items] == ["done", "failed"]
    assert items[1]["error"]["code"] == "erased"
    assert owner.get(path).status_code == 404


def test_an_upload_is_on_disk_before_it_is_accepted(
    here: Here, owner: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes, then its name in the folder of its job, then the folder's, then the job."""
    steps: list[str] = []
    fsync, accept = os.fsync, Library.accept
    uploads = here.node.home.uploads

    def watched_fsync(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_relative_to(uploads):
            steps.append(str(path.relative_to(uploads)))
            if path.is_file():
                assert path.read_bytes() == b"on disk"

    def watched_accept(library: Library, *given: Any) -> None:
        steps.append("accept")
        accept(library, *given)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Library, "accept", watched_accept)
    job_id = send(owner, b"on disk").json()["id"]
    assert steps == [f"{job_id}/0", job_id, ".", "accept"]
