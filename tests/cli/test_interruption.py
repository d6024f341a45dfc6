"""Ctrl-C in the middle of an ingest, and stopping a server in the middle of an answer."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pysqlite3.dbapi2 as sqlite
import pytest

from tests.cli.commands import SECONDS, command, refusal, run, run_json
from tests.forked import ENVIRONMENT, ROOT, Forked
from tests.served import start_node

FILES = 20
PARAGRAPHS = 5


@pytest.mark.long
@pytest.mark.timeout(900)
def test_an_interrupted_ingest_goes_on_where_it_was(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "minutes"
    folder.mkdir()
    for number in range(FILES):
        parts = [
            f"Meeting {number}, item {item}: " + "the boats of the harbour are counted. " * 25
            for item in range(PARAGRAPHS)
        ]
        (folder / f"{number:02}.txt").write_text("\n\n".join(parts))

    ingest: subprocess.Popen[str] = Forked(
        command("ingest", folder, "--json", home=home), env=ENVIRONMENT, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    _wait_until((home / "tokenizer.json").exists)  # it loads its models and holds the folder
    # Stopped for so long, or it may have nothing left to do when it is interrupted.
    ingest.send_signal(signal.SIGSTOP)
    assert "another process is using" in refusal(run("key", "list", home=home))
    ingest.send_signal(signal.SIGCONT)
    _wait_until(lambda: _documents(home) > 0)
    ingest.send_signal(signal.SIGINT)
    output, errors = ingest.communicate(timeout=SECONDS)
    assert ingest.returncode == 130
    assert "same command again" in errors and "Traceback" not in errors
    report = json.loads(output)
    assert report["interrupted"] and report["left"] > 0
    before = _documents(home)
    assert 0 < before < FILES

    server, url = start_node(home)
    try:
        again = run_json("ingest", folder, home=home)
        assert (again["failed"], again["left"]) == (0, 0)
        assert again["duplicates"] >= before
        assert again["stored"] + again["duplicates"] == FILES
        assert _documents(home) == FILES
        _stop_in_the_middle_of_an_answer(server, url, home)
    finally:
        server.kill()


def _stop_in_the_middle_of_an_answer(server: subprocess.Popen[bytes], url: str, home: Path) -> None:
    key = json.loads((home / "server.json").read_text())["key"]
    request = {
        "model": "default",
        "messages": [{"role": "user", "content": "Count from one to a thousand in words."}],
        "max_tokens": 1_000,
        "use_context": False,
        "stream": True,
    }
    pieces = 0
    headers = {"Authorization": f"Bearer {key}"}
    with (
        httpx.Client(base_url=url, headers=headers, timeout=SECONDS) as client,
        client.stream("POST", "/v1/chat/completions", json=request) as response,
    ):
        try:
            for line in response.iter_lines():
                pieces += '"content": "' in line
                if pieces == 5:
                    server.send_signal(signal.SIGTERM)
        except httpx.RemoteProtocolError:
            pass  # cut off, which is what a client of a stopped server sees
    assert server.wait(SECONDS) == 0
    assert 5 <= pieces < 1_000
    assert not (home / "server.json").exists()


def _wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _documents(home: Path) -> int:
    connection = sqlite.connect(f"file:{home / 'node.db'}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM document").fetchone()[0])
    finally:
        connection.close()
